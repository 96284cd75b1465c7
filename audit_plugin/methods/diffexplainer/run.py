"""A discovery from its parts: screen the bank once, then for every subject keep, test, compose and verify.

Pure but for what it asks: pictures and the model's answers come through :class:`Ask`, so that the same seeds give the same result.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.core.discovery_results import DiscoveredSubject, FoundPrompt, FoundWord, PromptPicture, WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Progress
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffexplainer.asking import Answers, Ask, LimitReachedError
from audit_plugin.methods.diffexplainer.lifts import MOST, Picture, Said, gathered
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.subspace import Searched
from audit_plugin.methods.diffexplainer.word_bank import BankWord, plain
from audit_plugin.methods.diffexplainer.word_search import Contexts, Kept, Screened, best_words, compose, screen
from audit_plugin.methods.diffexplainer.word_tests import Tested, check_words, estimate, stability
from audit_plugin.statistics.words import PhraseLift, activation_score

FEWEST_WORDS = 8
"""Of a bank, below which nothing is said of which classes a unit speaks for."""
EXPLAINED = 0.2
"""Share of a class's score that a unit must explain to speak for it."""
MOST_CLASSES = 3
"""That a unit speaks for."""


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
    """Plain word -> how much oftener pictures of the class show it, as the generator sees them."""
    captioned: Mapping[str, PhraseLift] = field(default_factory=dict)
    """The same, as captions of the pictures say it."""
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


class Look(Protocol):
    """Looks at pictures that a subject answers to, beside pictures of plain prompts under their seeds."""

    def described(self, subject: Subject, accepted: Sequence[Picture]) -> Subject:
        """The subject with what captions say, and the words that they speak for; raises LimitReachedError."""
        ...

    def margins(self, subject: Subject, accepted: Sequence[Picture], words: Sequence[str]) -> Mapping[str, float]:
        """How much closer each word is to them; empty where nobody can tell.  Raises LimitReachedError."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Ground:
    """What all subjects of one phrasing are held against."""

    screened: Screened
    wordless: Answers
    """Of plain prompts."""
    said: Said
    """What the prompts of both say, the screened first."""

    def lifts(self, column: int) -> dict[str, PhraseLift]:
        """By prompts alone."""
        told = [self.wordless] if self.screened.told is None else [self.screened.told, self.wordless]
        return self.said.lifts(np.concatenate([one.taken[:, column] for one in told]))


class Search(Protocol):
    """Looks between words for what a subject responds to."""

    def __call__(self, subject: str, column: int, contexts: Contexts, kept: Kept, *, graded: bool) -> Searched:
        """Of a subject by name and column, from its best words.  Raises LimitReachedError."""
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
    look: Look | None = None
    phrases: Sequence[str] = ()
    """What prompts may say, beside the bank's words."""
    search: Search | None = None
    """Looks between the words of a subject when all else is known of it."""
    labels: Sequence[str] = ()
    """Classes, whose columns come first."""
    kinds: Mapping[str, NodeKind] = field(default_factory=dict)
    """Path of a node of the tree -> what it is to the task."""
    options: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    progress: Progress = lambda *_: None

    def run(self, subjects: Sequence[Subject]) -> Discovered:
        """Every subject, in order; those that a limit leaves over are left out, and the limit is named."""
        done, reached = list[DiscoveredSubject](), self._watched.reached
        grounds: dict[int, Ground] = {}
        try:
            for at, subject in enumerate(subjects):
                phrasing = subject.phrasing or self.phrasing
                contexts = Contexts(phrasing, self.name)
                if id(phrasing) not in grounds:
                    grounds[id(phrasing)] = self._ground(contexts)
                for told in self._subject(subject, contexts, grounds[id(phrasing)]):
                    done[at:] = [told]
                self.progress(at + 1, len(subjects), "classes and units")
        except LimitReachedError as error:
            return Discovered(subjects=tuple(done), reached=frozenset(reached), stopped=str(error))
        return Discovered(subjects=tuple(done), reached=frozenset(reached))

    @cached_property
    def _watched(self) -> "_Watched":
        return _Watched(self.ask)

    def _ground(self, contexts: Contexts) -> Ground:
        screened, base = screen(self._watched, contexts, self.bank, self.options), contexts.plain(self.options.verify, "verify")
        wordless = self._watched([one.prompt for one in base], [one.seed for one in base], "prompts without words")
        words = [*(word.word for word in self.bank), *self.phrases]
        return Ground(screened=screened, wordless=wordless, said=Said.of([one.prompt for one in (*screened.draws, *base)], words))

    def _subject(self, subject: Subject, contexts: Contexts, ground: Ground) -> Iterator[DiscoveredSubject]:
        """As soon as it is whole, and once more with what lies between its words, where that is searched."""
        options, column, subject = self.options, subject.column, self.prepare(subject)
        self._watched.forget()
        kept = best_words(self._watched, contexts, ground.screened, column, options=options, further=subject.hints)
        composed = self._composed(subject, contexts, kept)
        prompts = _best_first([*composed.values(), *subject.prompts])
        accepted = self._accepted(subject, ground.screened)
        hints = subject.hints
        if self.look is not None:
            subject = self.look.described(subject, accepted)
        if subject.hints != hints:
            kept = best_words(self._watched, contexts, ground.screened, column, options=options, further=subject.hints)
        tested = check_words(
            self._watched, contexts, kept.words, column, options, graded=self.graded, by_score=subject.kind == "unit"
        )
        scores = dict(zip((word.word for word in kept.words), kept.score, strict=True))
        lifts, words = ground.lifts(column), [one.word.word for one in tested]
        margins = self.look.margins(subject, accepted, words) if self.look is not None else {}
        whole = DiscoveredSubject(
            name=subject.name,
            kind=subject.kind,
            named=subject.phrasing is not None,
            base_prompt=_spoken((), contexts),
            base=estimate(activation_score(ground.wordless.taken[:, column])),
            prompts=prompts,
            words=tuple(
                replace(self._word(subject, one, scores[one.word.word], lifts), margin=margins.get(one.word.word)) for one in tested
            ),
            object_absent=self.absent(subject, self._shown(prompts)),
            stability=stability(tested, options.q),
            classes=subject.classes or (self._spoken_for(column, ground.screened) if subject.kind == "unit" else ()),
            notes=subject.notes,
        )
        yield whole
        if self.search is not None:
            graded = self.graded or subject.kind == "unit"
            found = self.search(subject.name, column, contexts, kept, graded=graded)
            prompts = _best_first([*prompts, *self._between(found, subject, contexts, set(composed))])
            notes = (*whole.notes, found.note) if found.note else whole.notes
            yield replace(whole, prompts=prompts, object_absent=self.absent(subject, self._shown(prompts)), notes=notes)

    def _spoken_for(self, column: int, screened: Screened) -> tuple[tuple[str, float], ...]:
        """Classes that a unit answers together with, word by word of the bank, with the share of their score's variance that it explains."""
        if len(screened.words) < FEWEST_WORDS:
            return ()
        unit, classes = screened.score[:, column], screened.score[:, : len(self.labels)]
        varied = [at for at in range(len(self.labels)) if classes[:, at].std() > 0] if unit.std() > 0 else []
        r = {self.labels[at]: float(np.corrcoef(unit, classes[:, at])[0, 1]) for at in varied}
        return tuple(
            (name, value**2) for name, value in sorted(r.items(), key=lambda one: -one[1]) if value**2 >= EXPLAINED and value > 0
        )[:MOST_CLASSES]

    def _accepted(self, subject: Subject, screened: Screened) -> list[Picture]:
        """Pictures that are taken for the subject: of prompts found elsewhere, of what was asked for it, of the bank's words."""
        elsewhere = [one for prompt in subject.prompts for one in prompt.pictures if one.taken]
        groups = [[Picture(sha256=one.sha256, seed=one.seed) for one in elsewhere]]
        asked = [*self._watched.asked]
        if screened.told is not None:
            asked.append((screened.told, [one.seed for one in screened.draws]))
        for told, seeds in asked:
            taken = np.flatnonzero(told.taken[:, subject.column]).tolist()
            groups.append([Picture(sha256=told.shas[at], seed=seeds[at]) for at in taken])
        return gathered(groups)

    def _shown(self, prompts: Sequence[FoundPrompt]) -> list[str]:
        """Pictures of the best prompt that are taken for its subject."""
        known = [picture.sha256 for prompt in prompts[:1] for picture in prompt.pictures if picture.taken]
        fresh = [sha for prompt in prompts[:1] for sha in self._watched.fresh.get(prompt.text, ())]
        return list(dict.fromkeys([*known, *fresh]))[:MOST]

    def _word(self, subject: Subject, tested: Tested, score: float, said: Mapping[str, PhraseLift]) -> FoundWord:
        part, inside, by = self.decide(subject, tested) if tested.causes else (WordPart.UNKNOWN, None, "")
        effect, word = tested.effect, tested.word
        lift, lift_by = _lift(plain(word.word), {"captions": subject.captioned, "generator": subject.lifts, "prompts": said})
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
            lift_by=lift_by,
            part=part,
            inside=inside,
            part_by=by,
            examples=tested.examples(self.options.examples) if tested.causes else (),
        )

    def _composed(self, subject: Subject, contexts: Contexts, kept: Kept) -> dict[frozenset[str], FoundPrompt]:
        """The best composition, and the best single word where that is another, verified under fresh seeds; by their words."""
        composed = compose(self._watched, contexts, kept, subject.column, self.options)
        chosen = list(dict.fromkeys([*composed[:1], *(some for some in composed if len(some) == 1)][:2]))
        return {frozenset(some): self._verified(some, subject, contexts) for some in chosen}

    def _between(
        self, found: Searched, subject: Subject, contexts: Contexts, known: Collection[frozenset[str]]
    ) -> list[FoundPrompt]:
        """Where the search ended, and the first words that it weighs above 0, as far as one prompt says them all."""
        if found.answers is None:
            return []
        self._watched.fresh[found.text] = _taken(found.answers, subject.column)
        prompts, words = [self._prompt(found.text, found.how, found.answers, found.seeds, subject)], list[str]()
        for word in found.words:
            if len(words) < self.options.depth and None not in contexts.draws([*words, word], self.options.verify, "verify"):
                words.append(word)
        return prompts if not words or frozenset(words) in known else [*prompts, self._verified(words, subject, contexts)]

    def _verified(self, words: Sequence[str], subject: Subject, contexts: Contexts) -> FoundPrompt:
        draws = [one for one in contexts.draws(words, self.options.verify, "verify") if one is not None]
        told = self._watched([one.prompt for one in draws], [one.seed for one in draws], "prompts verified")
        text = _spoken(words, contexts)
        self._watched.fresh[text] = _taken(told, subject.column)
        return self._prompt(text, "composition", told, [one.seed for one in draws], subject)

    def _prompt(self, text: str, how: str, told: Answers, seeds: Sequence[int], subject: Subject) -> FoundPrompt:
        return FoundPrompt(
            text=text,
            how=how,
            activation=estimate(activation_score(told.taken[:, subject.column])),
            pictures=pictures(told, subject.column, seeds, self.options.pictures),
        )


def _spoken(words: Sequence[str], contexts: Contexts) -> str:
    """What was said: the prompt, or the words with one of the many prompts that they were put into."""
    phrasing = contexts.phrasing
    said = next((said for one in phrasing.contexts if (said := phrasing.add(one, words)) is not None), "")
    if len(phrasing.contexts) == 1:
        return said
    return f'{" and ".join(words)}, in captions such as "{said}"' if words else f'captions as they are, such as "{said}"'


def _taken(told: Answers, column: int) -> list[str]:
    return [told.shas[at] for at in np.flatnonzero(told.taken[:, column]).tolist()]


def _best_first(prompts: Sequence[FoundPrompt]) -> tuple[FoundPrompt, ...]:
    return tuple(sorted(prompts, key=lambda one: -one.activation.value))


def _lift(word: str, told: Mapping[str, Mapping[str, PhraseLift]]) -> tuple[PhraseLift | None, str]:
    """By the first that tells it, and which that is; empty where none does."""
    return next(((lifts[word], by) for by, lifts in told.items() if word in lifts), (None, ""))


def pictures(told: Answers, column: int, seeds: Sequence[int], most: int) -> tuple[PromptPicture, ...]:
    """The first of them: chosen by nothing, so that they show what the prompt gives."""
    return tuple(
        PromptPicture(sha256=told.shas[at], seed=seeds[at], score=float(told.shown[at, column]), taken=bool(told.taken[at, column]))
        for at in range(min(most, len(told)))
    )


@dataclass(eq=False)
class _Watched:
    """Notes which columns any picture was taken for, and what was asked since somebody forgot it."""

    ask: Ask
    reached: set[int] = field(default_factory=set)
    asked: list[tuple[Answers, Sequence[int]]] = field(default_factory=list)
    """Answers with the seeds of their pictures."""
    fresh: dict[str, list[str]] = field(default_factory=dict)
    """Of a verified prompt, the pictures that are taken for its subject."""

    def forget(self) -> None:
        """Of the subject before."""
        self.asked.clear()
        self.fresh.clear()

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Answers:
        told = self.ask(prompts, seeds, what)
        self.reached |= set(np.flatnonzero(told.taken.any(0)).tolist())
        self.asked.append((told, seeds))
        return told
