"""How words for what a deployed model sees are learned, and the sentences that they stand in."""

import re
from dataclasses import dataclass

from engines.pipelines.wording import Sentence

MEDIA = ("portrait", "picture", "image", "photo", "photograph", "snapshot")


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """How words are learned.  Defaults suit a miniature on a CPU; :data:`PAPER` is as published."""

    tokens: int = 3
    """Words for the look of all pictures, and as many for each class."""
    iterations: int = 300
    batch: int = 16
    micro: int = 16
    """Pictures at a time; changes memory, and the gradient by rounding only."""
    lr: float = 5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-9
    decay: float = 1e-4
    """Times the embedding itself, added to its gradient."""
    look: str = "a {look} {medium}"
    """A sentence for every picture; ``{look}`` are its own words."""
    sentence: str = "a {look} {medium} with a {class}"
    """A sentence for a class.  A small generator reads little behind the captions that it was taught: write one as its captions are, with
    ``{class}`` where they name the thing."""
    media: tuple[str, ...] = MEDIA
    """What a sentence calls the picture; drawn at random while learning."""
    medium: str = "photo"
    """The one that edits are told."""
    start: str = "photo"
    """What words for all pictures begin as."""
    save_every: int = 100
    """Iterations between saved states."""

    def __post_init__(self) -> None:
        if min(self.tokens, self.iterations, self.batch, self.micro, self.save_every, len(self.media)) < 1:
            raise ValueError("numbers of words, iterations, pictures and media are at least 1")
        if min(self.lr, self.eps) <= 0 or self.decay < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("the learning rate and eps are positive, decay is not negative, and betas lie in [0, 1)")

        for name, fields in (("look", ("{look}",)), ("sentence", ("{look}", "{class}"))):
            text = getattr(self, name)
            if any(text.count(each) != 1 for each in fields) or text.count("{") != len(fields) + text.count("{medium}"):
                raise ValueError(f"{name} {text!r} holds {' and '.join(fields)} once each, and {{medium}} where a picture is named")

    def about_all(self, medium: str) -> Sentence:
        """A sentence for every picture, with the words for all of them."""
        return self._filled(self.look, medium)

    def about_class(self, medium: str) -> Sentence:
        """A sentence for a class, whose words are numbered behind those for all pictures."""
        return self._filled(self.sentence, medium)

    def _filled(self, template: str, medium: str) -> Sentence:
        own = {"{look}": range(self.tokens), "{class}": range(self.tokens, 2 * self.tokens)}
        pieces = re.split(r"(\{look\}|\{class\})", template.replace("{medium}", medium))
        return tuple(each for piece in pieces for each in own.get(piece, [piece.strip()] if piece.strip() else []))


PAPER = TokenOptions(iterations=3000, batch=64, micro=8, lr=1e-4)
"""TIME's for Stable Diffusion 1.4 at 512 pixels."""
