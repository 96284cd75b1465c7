"""From a configuration to a discovery on one deployed model: who draws, what words there are, what the server says of the pictures."""

import datetime as dt
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import structlog

from audit_plugin.bank.flips import answers
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing, Sentences
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.discovery_results import Discovery, DomainFit, FoundWord, Mode, WordPart
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import ConceptDetector, Images, Progress, Scores, ScoreTable
from audit_plugin.core.seeds import seed
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.core.values import Concept
from audit_plugin.discovered import lines_of
from audit_plugin.methods.diffex.scores import ClassScores, class_scores
from audit_plugin.methods.diffexplainer.asking import Answers, LimitReachedError
from audit_plugin.methods.diffexplainer.deciding import covered, drawn_masks, occlusion_share, part_of
from audit_plugin.methods.diffexplainer.domain import domain_fit
from audit_plugin.methods.diffexplainer.run import Discovered, Discoverer, Subject
from audit_plugin.methods.diffexplainer.units import UnitReader
from audit_plugin.methods.diffexplainer.word_bank import BankWord, plain, word_bank
from audit_plugin.methods.diffexplainer.word_search import Contexts
from audit_plugin.methods.diffexplainer.word_tests import Tested, estimate
from audit_plugin.statistics.intervals import wilson
from audit_plugin.target.triton import TritonClassifier

LOG = structlog.get_logger(__name__)

MOST_CLASSES = 50
COVERED = 24
"""Pictures in which the object, and then all else, is covered."""
FITTED = 64
"""Generated and real pictures that say whether the domain fits."""


@dataclass(frozen=True, kw_only=True)
class Discovering:
    """Everything that looking for cues of one model version needs."""

    audit: str
    asked: DiscoverConfig
    target: TritonClassifier
    studio: PromptStudio
    scores: ScoreTable
    phrasing: Phrasing
    vocabulary: Callable[[], Sequence[str]]
    """The generator's own words; read when they are needed."""
    generator: str
    rows_per_picture: Callable[[], int]
    tree: ConceptTree
    concepts: Sequence[Concept] = ()
    detector: ConceptDetector | None = None
    """Reads whether a class's object is there, where it knows it."""
    real: Callable[[int], Images] = field(default=lambda _count: np.zeros((0, 3, 1, 1), np.float32))
    """So many real pictures; fewer where there are none."""
    units: Sequence[UnitReader] = ()
    prepare: Callable[[Subject], Subject] = lambda subject: subject
    """Adds words and prompts that a gradient speaks for."""
    mode: Mode = Mode.SCORES
    mode_said: str = ""
    spent: Mapping[str, int] = field(default_factory=dict)
    """Network rows of gradients (``gradients``), and of all that was drawn or compared beside stored pictures (``rows``)."""
    progress: Progress = lambda *_: None

    def run(self) -> Discovery:
        """Everything that is asked for; what a limit leaves over is named in the result."""
        started, before = time.monotonic(), self.target.counts.images
        bank, subjects = () if self.mode is Mode.GRADIENT and self.asked.mode == "gradient" else self.bank, self.subjects
        discoverer = Discoverer(
            ask=self._ask,
            phrasing=self.phrasing,
            bank=bank,
            name=self.audit,
            graded=not self.target.labels_only,
            decide=self._decide,
            prepare=lambda subject: self._known(self.prepare(subject)),
            absent=self._absent,
            kinds={node.path: node.kind for node in self.tree.nodes},
            options=self.asked.options,
            progress=self.progress,
        )
        found = discoverer.run(subjects)
        if found.stopped:
            LOG.warning(
                "a limit ended the discovery; the next one goes on from the pictures that are there",
                limit=f"discover.limits.{found.stopped}",
                model=self.target.info.model,
                subjects=f"{len(found.subjects)} of {len(subjects)}",
            )
        return self._result(found, len(bank), started, before)

    def _result(self, found: Discovered, words: int, started: float, before: int) -> Discovery:
        info, fit, drawn = self.target.info, self._fit(found), self.studio.drawn[0]
        return Discovery(
            model=info.model,
            version=info.version,
            mode=Mode.LABELS if self.target.labels_only and self.mode is Mode.SCORES else self.mode,
            mode_said=self.mode_said or "words and their compositions, by the server's answers alone",
            generator=self.generator,
            words=words,
            contexts=len(self.phrasing.contexts),
            fit=fit,
            subjects=found.subjects,
            queries=self.target.counts.images - before,
            network_rows=(drawn * self.rows_per_picture() if drawn else 0) + self.spent.get("rows", 0),
            gradient_rows=self.spent.get("gradients", 0),
            seconds=round(time.monotonic() - started, 1),
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            stopped=found.stopped,
            notes=self._notes(),
        )

    def _known(self, subject: Subject) -> Subject:
        """The subject's own words with the nodes that say them."""
        paths = {plain(node.prompt_add): node.path for node in self.tree.editable if node.prompt_add}
        return replace(subject, hints=tuple(replace(word, node=paths.get(plain(word.word), "")) for word in subject.hints))

    @cached_property
    def bank(self) -> tuple[BankWord, ...]:
        """Words that are tried; without the classes' own names where the question is whether a class needs its object."""
        own = [] if not self.asked.words else lines_of(Path(self.asked.words), "discover.words")
        return word_bank(
            self.phrasing,
            tree=self.tree,
            own=own,
            vocabulary=() if self.phrasing.phrases else self.vocabulary(),
            names=[label.replace("_", " ") for label in self.target.info.labels],
            most=self.asked.options.words,
        )

    @property
    def subjects(self) -> list[Subject]:
        """Classes, then the same by name, then units.  Raises ConfigError for classes that the model does not have."""
        labels = self.target.info.labels
        for name in self.asked.classes:
            if name not in labels:
                raise ConfigError(
                    f"discover.classes: model {self.target.info.model!r} has no class {name!r}; it has {', '.join(labels)}"
                )
        names = (self.asked.classes or labels)[:MOST_CLASSES]
        found = [Subject(name=name, column=labels.index(name)) for name in names]
        if self.asked.named and isinstance(self.phrasing, Sentences):
            found += [
                Subject(name=name, column=labels.index(name), phrasing=Sentences((f"a photo of a {name.replace('_', ' ')}",)))
                for name in names
            ]
        column = len(labels)
        for reader in self.units:
            for unit in reader.units:
                found.append(Subject(name=f"{reader.output}[{unit}]", kind="unit", column=column))
                column += 1
        return found

    def _ask(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Answers:
        return self.answers(self.studio.shas(prompts, seeds, what), what)

    def answers(self, shas: Sequence[str], what: str) -> Answers:
        """What the model says of stored pictures.  Raises LimitReachedError."""
        labels = self.target.info.labels
        told = self._class_scores(self._scored(shas, what))
        score, shown = told.log_odds, told.probability
        taken = told.decisions == np.arange(len(labels)) if told.decisions.shape[1] == 1 else told.decisions.astype(np.bool_)
        for reader in self.units:
            read = reader.read(shas, self.studio.images)
            score, shown = np.concatenate([score, read.score], 1), np.concatenate([shown, read.score], 1)
            taken = np.concatenate([taken, read.taken], 1)
        return Answers(shas=tuple(shas), score=score, shown=shown, taken=taken)

    def _scored(self, shas: Sequence[str], what: str) -> Scores:
        """Scores of stored pictures, each asked for once per version.  Raises LimitReachedError when all that the limit pays for is asked."""
        new = sorted(set(shas) - self.scores.known(self.target.info.id, shas))
        known = answers(
            self.target,
            self.scores,
            self.studio.store.pictures.pixels,
            shas if len(new) <= self._left else new[: int(self._left)],
            sent=self._sent,
            progress=lambda done, total, _what: self.progress(done, total, f"answers on {what}"),
        )
        if not known.keys() >= set(shas):
            raise LimitReachedError("classifier_queries")
        return np.stack([known[sha] for sha in shas])

    def _told(self, images: Images) -> ClassScores:
        """What the model says of pictures whose scores are not kept.  Raises LimitReachedError."""
        if len(images) > self._left:
            raise LimitReachedError("classifier_queries")
        told = self._class_scores(self.target.predict(images))
        self._sent[0] += len(images)
        return told

    @property
    def _left(self) -> float:
        """Queries that the limit still pays for."""
        limit = self.asked.limits.classifier_queries
        return math.inf if limit is None else max(0, limit - self._sent[0])

    @cached_property
    def _sent(self) -> list[int]:
        return [0]

    def _class_scores(self, scores: Scores) -> ClassScores:
        kind = ScoreKind.LABELS if self.target.labels_only else ScoreKind.PROBS
        if not self.target.labels_only and self.target.contract.activation.value == "sigmoid":
            kind = ScoreKind.SIGMOID
        return class_scores(scores, kind)

    def _decide(self, subject: Subject, tested: Tested) -> tuple[WordPart, Estimate | None, str]:
        """The person's word in the tree first, then what the class is said to be about, then where the response comes from."""
        word = tested.word
        if word.node:
            node = self.tree.node(word.node)
            by = "person" if node.source == "person" else "tree"
            if node.kind is NodeKind.CORE:
                return WordPart.CORE, None, by
            proposed = (
                node.source == "diffexplainer" and node.kind is NodeKind.NUISANCE
            )  # the kind of every proposal: nobody's word
            if node.kind.must_not and not proposed:
                return WordPart.SPURIOUS, None, by
        if plain(word.word) in {plain(one) for one in self._objects(subject)}:
            return WordPart.CORE, None, "person"
        inside = self._inside(subject, tested)
        return (WordPart.UNKNOWN, None, "") if inside is None else (part_of(inside), inside, "occlusion")

    def _objects(self, subject: Subject) -> list[str]:
        """Words for what the subject is about."""
        core = [node.prompt_add for node in self.tree.editable if node.kind is NodeKind.CORE and node.prompt_add]
        named = self.asked.objects.get(subject.name)
        return [named, *core] if named else core

    def _inside(self, subject: Subject, tested: Tested) -> Estimate | None:
        """The object's share of the response: pictures are drawn again without the object, which shows where it was, and covered there."""
        objects, pairs = self._objects(subject), list[tuple[int, str]]()
        for at in np.flatnonzero(tested.taken).tolist():
            prompt = tested.pairs[at][1].prompt
            thing = next(
                (one for one in objects if plain(one) != plain(tested.word.word) and self.phrasing.said(prompt, one)), None
            )
            if thing is not None and (without := self.phrasing.remove(prompt, thing)) != prompt:
                pairs.append((at, without))
            if len(pairs) == COVERED:
                break
        if len(pairs) < COVERED // 3 or subject.kind == "unit":
            return None
        shown = self.studio.images([tested.shas[at][1] for at, _ in pairs])
        others = self.studio.shas(
            [prompt for _, prompt in pairs], [tested.pairs[at][1].seed for at, _ in pairs], "pictures without the object"
        )
        masks = drawn_masks(shown, self.studio.images(others))
        held = masks.mean((1, 2)) > 0
        shown, masks = shown[held], masks[held]
        if len(shown) < COVERED // 3:
            return None
        before, no_object, no_rest = (
            self._told(images).log_odds[:, subject.column] for images in (shown, covered(shown, masks), covered(shown, ~masks))
        )
        area = masks.mean((1, 2))
        return occlusion_share(before - no_object, before - no_rest, area, seed=seed(self.audit, "covered") % 2**32)

    def _absent(self, subject: Subject, shas: Sequence[str]) -> Estimate | None:
        """By the detector, where it knows the word for the class's object."""
        thing = self.asked.objects.get(subject.name)
        if thing is None or self.detector is None or not shas:
            return None
        found = next(
            (
                (concept.name, level)
                for concept in self.concepts
                for level, phrase in enumerate(concept.phrases)
                if plain(phrase) == plain(thing)
            ),
            None,
        )
        if found is None:
            return None
        read = self.detector.read(self.studio.images(shas))[found[0]]
        return estimate(wilson(int((read.argmax(1) != found[1]).sum()), len(shas)))

    def _fit(self, found: Discovered) -> DomainFit:
        """Where a budget is spent, from what was seen before that; nothing is said of a generator of which nothing was."""
        classes = len(self.target.info.labels)
        reached = len([column for column in found.reached if column < classes])
        if found.stopped and not found.subjects:
            return DomainFit(
                fits=True,
                said="a limit ended the discovery before anything could be said of the generator",
                classes_reached=reached,
                classes=classes,
            )
        drawn, real = np.zeros((0, 3, 1, 1), np.float32), self.real(FITTED)
        with suppress(LimitReachedError):
            plain_ones = Contexts(self.phrasing, self.audit).plain(FITTED, "domain")
            shas = self.studio.shas(
                [one.prompt for one in plain_ones], [one.seed for one in plain_ones], "pictures of plain prompts"
            )
            drawn = self.studio.images(shas)
        return domain_fit(reached, classes, drawn, real if len(real) else None)

    def _notes(self) -> tuple[str, ...]:
        notes = list[str]()
        if self.asked.named and isinstance(self.phrasing, CaptionForms):
            notes.append("captions of this generator do not name the classes: the run with their names was left out")
        if len(self.target.info.labels) > MOST_CLASSES and not self.asked.classes:
            notes.append(f"only the first {MOST_CLASSES} classes were asked about; name others as `discover.classes`")
        if not self.asked.objects and not any(node.kind is NodeKind.CORE for node in self.tree.editable):
            notes.append("nothing says what the classes are about: give `discover.objects`, or nodes of kind core in the tree")
        return tuple(notes)


def budgeted(asked: DiscoverConfig, drawn: Sequence[int], rows_per_picture: Callable[[], int]) -> Callable[[int], None]:
    """Raises LimitReachedError before a picture that the limits do not pay for; its clock runs from now."""
    started = time.monotonic()

    def allow(pictures: int) -> None:
        limits = asked.limits
        if limits.network_rows is not None and (drawn[0] + pictures) * rows_per_picture() > limits.network_rows:
            raise LimitReachedError("network_rows")
        if limits.wall_minutes is not None and time.monotonic() - started > 60 * limits.wall_minutes:
            raise LimitReachedError("wall_minutes")

    return allow


def attached(discovery: Discovery, nodes: Mapping[str, Node]) -> Discovery:
    """The discovery with its words pointing at nodes of the tree as it is now: plain word -> node."""

    def pointing(word: FoundWord) -> FoundWord:
        node = nodes.get(plain(word.word))
        return word if node is None else replace(word, node=node.path, kind=node.kind)

    return replace(
        discovery,
        subjects=tuple(replace(subject, words=tuple(map(pointing, subject.words))) for subject in discovery.subjects),
    )
