"""From pictures to words (specification 6.7): captions of what a subject answers to, beside captions of plain prompts under the same seeds.

What sets the two apart is a description, and becomes a hint: the paired test decides about it as about any other word.  An image-text model, where
there is one, says how much closer each tested word is to the pictures.  Only pictures that the generator drew are looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import structlog

from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.keywords import keywords
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing
from audit_plugin.concepts.picture_captions import Captioner
from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import digest
from audit_plugin.methods.diffexplainer.lifts import Picture, Said
from audit_plugin.methods.diffexplainer.run import Subject
from audit_plugin.methods.diffexplainer.word_bank import BankWord, holds, plain
from audit_plugin.perception.image_text_models import ImageTextModel
from audit_plugin.statistics.words import margins, phrase_lifts

LOG = structlog.get_logger(__name__)
MOST = 20
"""Words that are added to a subject's own."""
NAMED = 8
"""Phrases that a note names."""
FEWEST = 4
"""Captions of either kind, below which nothing is said."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureWords:
    """Looks at pictures for one discovery.  Implements :class:`audit_plugin.methods.diffexplainer.run.Look`."""

    audit: str
    studio: PromptStudio
    phrasing: Phrasing
    words: Sequence[str]
    """Of the bank, the tree and the captions, as they stand in prompts."""
    names: Sequence[str] = ()
    """Words that no prompt may say: those of the classes."""
    captioner: Captioner | None = None
    open_model: Callable[[], ImageTextModel] | None = None
    """The image-text model; opened when it is needed."""
    known: Callable[[Subject], Subject] = lambda subject: subject
    """Adds the nodes that say its words."""
    q: float = 0.05
    progress: Progress = lambda *_: None

    def described(self, subject: Subject, accepted: Sequence[Picture]) -> Subject:
        """With what captions say of its pictures, and the words that they speak for, where a prompt can say those.  Raises LimitReachedError."""
        if self.captioner is None or self.captioner.why or len(accepted) < FEWEST:
            return subject
        shas = ([one.sha256 for one in accepted], self._plain(subject, accepted))
        told = self.captioner.captions([*shas[0], *shas[1]], self.progress, f"captions of pictures for {subject.name}")
        mine, others = ([told[sha] for sha in some if sha in told] for some in shas)
        if min(len(mine), len(others)) < FEWEST:
            return subject
        said = Said.of([*mine, *others], [*keywords(mine), *self.words])
        lifts = phrase_lifts(said.words, said.by[: len(mine)], said.by[len(mine) :])
        found = [one.phrase for one in sorted(lifts, key=lambda one: (one.q, -one.lift, one.phrase)) if one.found(self.q)]
        named = [self._prompted(phrase, subject.phrasing or self.phrasing) for phrase in found]
        have = {plain(word.word) for word in subject.hints}
        new = list(dict.fromkeys(word for word in named if word and plain(word) not in have))[:MOST]
        return self.known(
            replace(
                subject,
                hints=(*subject.hints, *(BankWord(word=word, source="pictures") for word in new)),
                captioned={one.phrase: one for one in lifts},
                notes=(*subject.notes, _counted(len(mine), len(others), found)),
            )
        )

    def margins(self, subject: Subject, accepted: Sequence[Picture], words: Sequence[str]) -> Mapping[str, float]:
        """Mean cosine of each word with its pictures less that with plain ones; empty without a model.  Raises LimitReachedError."""
        if self.open_model is None or len(accepted) < FEWEST or not words:
            return {}
        plain_ones = self._plain(subject, accepted)
        try:
            texts = self._model.texts([plain(word) for word in words])
            mine, others = (
                self._model.images(self.studio.images(shas)) @ texts.T for shas in ([one.sha256 for one in accepted], plain_ones)
            )
        except DetectorError as error:
            LOG.warning("words are not held against pictures", why=str(error))
            return {}
        return dict(zip(words, margins(mine, others).tolist(), strict=True))

    @cached_property
    def _model(self) -> ImageTextModel:
        if self.open_model is None:
            raise DetectorError("there is no image-text model")
        return self.open_model()

    def _plain(self, subject: Subject, accepted: Sequence[Picture]) -> list[str]:
        """As many pictures of prompts as they are, under the same seeds."""
        contexts = (subject.phrasing or self.phrasing).contexts
        prompts = [contexts[int(digest("reference", self.audit, one.sha256)[:8], 16) % len(contexts)] for one in accepted]
        return self.studio.shas(prompts, [one.seed for one in accepted], "pictures of plain prompts")

    def _prompted(self, phrase: str, phrasing: Phrasing) -> str:
        """What says the phrase in a prompt; empty where nothing does, or it would name a class."""
        if any(holds(phrase, plain(name)) for name in self.names):
            return ""
        if phrase in self._own:
            return self._own[phrase]
        if not isinstance(phrasing, CaptionForms):
            return phrase
        near = [one for one in phrasing.phrases if holds(plain(one), phrase) or holds(phrase, plain(one))]
        return near[0] if len(near) == 1 else ""

    @cached_property
    def _own(self) -> dict[str, str]:
        """Plain word -> as it stands in prompts."""
        return {plain(word): word for word in reversed(self.words)}


def _counted(mine: int, others: int, found: Sequence[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    said = f"the first say oftener {', '.join(found[:NAMED])}{more}" if found else "the first say nothing oftener"
    return f"captions of {mine} pictures taken for it and of {others} of plain prompts: {said}"
