"""A discovery from its parts: screen the bank once, then for every subject keep, test, compose and verify.

Pure but for what it asks: pictures and the model's answers come through :class:`Ask`, so that the same seeds give the same result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.core.discovery_results import DiscoveredSubject, FoundPrompt, FoundWord, PromptPicture, WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Progress
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffexplainer.asking import Answers, Ask, LimitReachedError
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_bank import BankWord, plain
from audit_plugin.methods.diffexplainer.word_search import Contexts, Kept, Screened, best_words, compose, screen
from audit_plugin.methods.diffexplainer.word_tests import Tested, check_words, estimate, stability
from audit_plugin.statistics.words import PhraseLift, activation_score


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is asked about."""

    name: str
    kind: Literal["class", "unit"] = "class"
    column: int
    """Of the answers."""
    phrasing: Phrasing | None = None
    """Contexts of its own, that say its name; None: those of all."""
    hints: tuple[BankWord, ...] = ()
    """Words that something else, a gradient or what pictures show, speaks for."""
    prompts: tuple[FoundPrompt, ...] = ()
    """Found elsewhere, and verified."""
    lifts: Mapping[str, PhraseLift] = field(default_factory=dict)
    """Plain word -> how much oftener pictures of the class show it."""
    classes: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()


class Decide(Protocol):
    """Says whether a word belongs to what a subject is about."""

    def __call__(self, subject: Subject, tested: Tested) -> tuple[WordPart, Estimate | None, str]:
        """Part, the object's share of the response where it was measured, and what decided."""
        ...


class Absent(Protocol):
    """Says in how many of the pictures that a class is given to its object is not there."""

    def __call__(self, subject: Subject, shas: Sequence[str]) -> Estimate | None:
        """None where nobody can tell."""
        ...


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """What came of it."""

    subjects: tuple[DiscoveredSubject, ...]
    reached: frozenset[int]
    """Columns that some picture of the bank was taken for."""
    stopped: str = ""


@dataclass(frozen=True, kw_only=True)
class Discoverer:
    """Everything that a discovery needs."""

    ask: Ask
    phrasing: Phrasing
    bank: Sequence[BankWord]
    name: str
    """Of the audit: all seeds follow from it."""
    graded: bool
    """Whether the server says more than labels."""
    decide: Decide
    prepare: Callable[[Subject], Subject] = lambda subject: subject
    """Adds what a gradient says of a subject, when its turn comes."""
    absent: Absent = lambda _subject, _shas: None
    kinds: Mapping[str, NodeKind] = field(default_factory=dict)
    """Path of a node of the tree -> what it is to the task."""
    options: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    progress: Progress = lambda *_: None

    def run(self, subjects: Sequence[Subject]) -> Discovered:
        """Every subject, in order; those that a limit leaves over are left out, and the limit is named."""
        done, reached = list[DiscoveredSubject](), self._watched.reached
        screened: dict[int, Screened] = {}
        try:
            for at, subject in enumerate(subjects):
                phrasing = subject.phrasing or self.phrasing
                contexts = Contexts(phrasing, self.name)
                if id(phrasing) not in screened:
                    screened[id(phrasing)] = screen(self._watched, contexts, self.bank, self.options)
                done.append(self._subject(subject, contexts, screened[id(phrasing)]))
                self.progress(at + 1, len(subjects), "classes and units")
        except LimitReachedError as error:
            return Discovered(subjects=tuple(done), reached=frozenset(reached), stopped=str(error))
        return Discovered(subjects=tuple(done), reached=frozenset(reached))

    @cached_property
    def _watched(self) -> "_Watched":
        return _Watched(self.ask)

    def _subject(self, subject: Subject, contexts: Contexts, screened: Screened) -> DiscoveredSubject:
        options, column, subject = self.options, subject.column, self.prepare(subject)
        kept = best_words(self._watched, contexts, screened, column, options=options, further=subject.hints)
        tested = check_words(
            self._watched, contexts, kept.words, column, options, graded=self.graded, by_score=subject.kind == "unit"
        )
        base = contexts.plain(options.verify, "verify")
        wordless = self._watched([one.prompt for one in base], [one.seed for one in base], "prompts without words")
        prompts = self._prompts(subject, contexts, kept)
        shown = [picture.sha256 for prompt in prompts[:1] for picture in prompt.pictures if picture.taken]
        scores = dict(zip((word.word for word in kept.words), kept.score, strict=True))
        return DiscoveredSubject(
            name=subject.name,
            kind=subject.kind,
            named=subject.phrasing is not None,
            base_prompt=contexts.phrasing.contexts[0],
            base=estimate(activation_score(wordless.taken[:, column])),
            prompts=prompts,
            words=tuple(self._word(subject, one, scores[one.word.word]) for one in tested),
            object_absent=self.absent(subject, shown),
            stability=stability(tested, options.q),
            classes=subject.classes,
            notes=subject.notes,
        )

    def _word(self, subject: Subject, tested: Tested, score: float) -> FoundWord:
        part, inside, by = self.decide(subject, tested) if tested.causes else (WordPart.UNKNOWN, None, "")
        effect, word = tested.effect, tested.word
        lift = subject.lifts.get(plain(word.word))
        return FoundWord(
            word=word.word,
            source=word.source,
            node=word.node,
            known=bool(word.node),
            kind=self.kinds.get(word.node),
            score=score,
            with_word=estimate(effect.with_word),
            without=estimate(effect.without),
            effect=estimate(effect.difference),
            shift=None if tested.shift is None else estimate(tested.shift),
            p=tested.p,
            q=tested.q,
            causes=tested.causes,
            pairs=len(tested.pairs),
            lift=None if lift is None else lift.lift,
            lift_q=None if lift is None else lift.q,
            part=part,
            inside=inside,
            part_by=by,
            examples=tested.examples(self.options.examples) if tested.causes else (),
        )

    def _prompts(self, subject: Subject, contexts: Contexts, kept: Kept) -> tuple[FoundPrompt, ...]:
        """The best composition, and the best single word where that is another, verified under fresh seeds."""
        composed = compose(self._watched, contexts, kept, subject.column, self.options)
        chosen = list(dict.fromkeys([*composed[:1], *(some for some in composed if len(some) == 1)][:2]))
        made = [self._verified(some, subject, contexts) for some in chosen]
        return tuple(sorted([*made, *subject.prompts], key=lambda one: -one.activation.value))

    def _verified(self, words: Sequence[str], subject: Subject, contexts: Contexts) -> FoundPrompt:
        draws = [one for one in contexts.draws(words, self.options.verify, "verify") if one is not None]
        told = self._watched([one.prompt for one in draws], [one.seed for one in draws], "prompts verified")
        text = next((said for one in contexts.phrasing.contexts if (said := contexts.phrasing.add(one, words)) is not None), "")
        return FoundPrompt(
            text=text,
            how="composition",
            activation=estimate(activation_score(told.taken[:, subject.column])),
            pictures=pictures(told, subject.column, [one.seed for one in draws], self.options.pictures),
        )


def pictures(told: Answers, column: int, seeds: Sequence[int], most: int) -> tuple[PromptPicture, ...]:
    """The first of them: chosen by nothing, so that they show what the prompt gives."""
    return tuple(
        PromptPicture(sha256=told.shas[at], seed=seeds[at], score=float(told.shown[at, column]), taken=bool(told.taken[at, column]))
        for at in range(min(most, len(told)))
    )


@dataclass(eq=False)
class _Watched:
    """Notes which columns any picture was taken for."""

    ask: Ask
    reached: set[int] = field(default_factory=set)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Answers:
        told = self.ask(prompts, seeds, what)
        self.reached |= set(np.flatnonzero(told.taken.any(0)).tolist())
        return told
