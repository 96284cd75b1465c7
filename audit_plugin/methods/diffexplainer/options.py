"""How thoroughly words are searched for and tested.  Defaults: specification 7.2 and 12."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions:
    """Numbers of words, seeds and pictures."""

    words: int = 3000
    """Most words in the bank."""
    screen_seeds: int = 4
    """Pictures of every word at first; banks of fewer than 250 words get more, up to 16."""
    shortlist: int = 100
    """Best words of a subject that are estimated again, under fresh seeds."""
    again_seeds: int = 16
    keep: int = 20
    """Best of those that are tested."""
    pairs: int = 100
    """Seeds with and without a word, in the test that decides."""
    beam: int = 8
    depth: int = 3
    """Most words in one prompt."""
    compose_seeds: int = 16
    verify: int = 100
    """Pictures of which an activation score is the share."""
    q: float = 0.05
    examples: int = 3
    """Pairs of a word that are kept to be looked at."""
    pictures: int = 12
    """Of a prompt."""

    def __post_init__(self) -> None:
        for name, least in (("words", 1), ("screen_seeds", 2), ("again_seeds", 2), ("pairs", 10), ("verify", 10)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if min(self.shortlist, self.keep, self.beam, self.depth, self.compose_seeds) < 1 or not 0 < self.q < 1:
            raise ValueError("numbers of words and seeds are at least 1, q lies between 0 and 1")

    def seeds_of(self, words: int) -> int:
        """Pictures of every word of a bank of so many, at first.

        >>> DiscoveryOptions().seeds_of(3000), DiscoveryOptions().seeds_of(20)
        (4, 16)
        """
        return max(self.screen_seeds, min(16, 1000 // max(1, words)))
