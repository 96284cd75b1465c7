"""From a configuration to a discovery on one deployed model: who draws, what words there are, what the server says of the pictures."""

import datetime as dt
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import structlog

from audit_plugin.bank.flips import answers
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing, Sentences
from audit_plugin.concepts.picture_captions import Captioner
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.discovery_results import Discovery, DomainFit, FoundWord, Mode, UnitWords
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import ConceptDetector, Images, Progress, Scores, ScoreTable
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.core.values import Concept
from audit_plugin.discovered import lines_of
from audit_plugin.methods.diffex.scores import ClassScores, class_scores
from audit_plugin.methods.diffexplainer.asking import Answers, LimitReachedError
from audit_plugin.methods.diffexplainer.domain import domain_fit
from audit_plugin.methods.diffexplainer.parts import Parts
from audit_plugin.methods.diffexplainer.picture_words import PictureWords
from audit_plugin.methods.diffexplainer.run import Discovered, Discoverer, Look, Subject
from audit_plugin.methods.diffexplainer.subspace import Searcher, SpanOf
from audit_plugin.methods.diffexplainer.units import UnitReader, unit_words
from audit_plugin.methods.diffexplainer.word_bank import BankWord, plain, word_bank
from audit_plugin.methods.diffexplainer.word_search import Contexts, drawn_for
from audit_plugin.perception.image_text_models import ImageTextModel
from audit_plugin.perception.segmenters import Segmenter
from audit_plugin.sources.images import to_uint8
from audit_plugin.target.triton import TritonClassifier

LOG = structlog.get_logger(__name__)

MOST_UNITS = 512
"""Of the dictionary."""
MOST_CLASSES = 50
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
    real_of: Callable[[str], Images] = field(default=lambda _name: np.zeros((0, 3, 1, 1), np.float32))
    """Real pictures of a class, by their labels."""
    captioner: Captioner | None = None
    image_text: Callable[[], ImageTextModel] | None = None
    """Opens the model that words are held against pictures by."""
    segmenter: Segmenter | None = None
    """Finds the classes' objects."""
    units: Sequence[UnitReader] = ()
    prepare: Callable[[Subject], Subject] = lambda subject: subject
    """Adds words and prompts that a gradient speaks for."""
    spans: Callable[[Callable[[Sequence[str], str], Answers]], SpanOf] | None = None
    """Given who answers about stored pictures: blends of prompts, which `discover.subspace` searches."""
    independent: bool = False
    """Whether several classes may hold at once, each decided at one half, though scores are used as they are."""
    mode: Mode = Mode.SCORES
    mode_said: str = ""
    spent: dict[str, int] = field(default_factory=lambda: {"rows": 0, "gradients": 0})
    """Network rows of gradients (``gradients``), and of all that was drawn or compared beside stored pictures (``rows``)."""
    sent: list[int] = field(default_factory=lambda: [0])
    """Pictures that the server was asked about so far."""
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
            decide=self.parts.decide,
            prepare=lambda subject: self.parts.noted(self._known(self.prepare(subject))),
            absent=self.parts.absent,
            look=self._look(bank),
            phrases=self._phrases,
            labels=self.target.info.labels,
            search=self._searcher,
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
            mode_said=(self.mode_said or "words and their compositions, by the server's answers alone")
            + ("" if self._searcher is None else "; then blends of each subject's best words, by its answers"),
            generator=self.generator,
            words=words,
            contexts=len(self.phrasing.contexts),
            fit=fit,
            subjects=found.subjects,
            dictionary=() if found.stopped or not words else self._dictionary(),
            queries=self.target.counts.images - before,
            network_rows=(drawn * self.rows_per_picture() if drawn else 0) + self.spent.get("rows", 0),
            gradient_rows=self.spent.get("gradients", 0),
            seconds=round(time.monotonic() - started, 1),
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            stopped=found.stopped,
            notes=self._notes(),
        )

    def _dictionary(self) -> tuple[UnitWords, ...]:
        """Of every unit of the outputs that were asked about, by the pictures of the first pass: nothing is drawn or asked for it."""
        told = drawn_for(Contexts(self.phrasing, self.audit), self.bank, self.asked.options.seeds_of(len(self.bank)))
        found = list[UnitWords]()
        for reader in self.units if len(told) > 1 else ():
            draws = [one for _, mine in told for one in mine]
            shas = self.studio.shas([one.prompt for one in draws], [one.seed for one in draws], "pictures of words")
            found += unit_words(reader.output, [word.word for word, _ in told], reader.all(shas, self.studio.images))
        return tuple(sorted(found, key=lambda one: (-one.words[0][1], one.unit))[:MOST_UNITS])

    @property
    def _searcher(self) -> Searcher | None:
        """Where blends are searched.  Raises ConfigError for NES on labels, which are too coarse for its differences."""
        asked, target = self.asked.subspace, self.target
        if asked is None or self.spans is None:
            return None
        if asked.method == "nes" and target.labels_only:
            raise ConfigError(
                f"discover.subspace.method: nes needs scores, and {target.info.model} answers with labels alone; use cmaes or auto"
            )
        spans, verify = self.spans(self.answers), self.asked.options.verify
        return Searcher(span=spans, search=asked, name=self.audit, verify=verify, progress=self.progress)

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
        names = tuple(dict.fromkeys(self.asked.classes or labels))[:MOST_CLASSES]
        found = [Subject(name=name, column=labels.index(name)) for name in names]
        if self.asked.named:
            told = {name: self._naming(name) for name in names}
            found += [
                Subject(name=name, column=labels.index(name), phrasing=phrasing)
                for name, phrasing in told.items()
                if phrasing is not None
            ]
        column = len(labels)
        for reader in self.units:
            for unit in reader.units:
                found.append(Subject(name=f"{reader.output}[{unit}]", kind="unit", column=column))
                column += 1
        return found

    def _naming(self, name: str) -> Phrasing | None:
        """Prompts that say what the class is about: its object's word, else its own name; None where captions have no place for that."""
        word = self.asked.objects.get(name, name.replace("_", " "))
        if isinstance(self.phrasing, Sentences):
            return Sentences((f"a photo of a {word}",))
        if not isinstance(self.phrasing, CaptionForms) or plain(word) not in {plain(one) for one in self.phrasing.phrases}:
            return None
        said = [told for one in self.phrasing.contexts if (told := self.phrasing.add(one, [word])) is not None]
        return replace(self.phrasing, contexts=tuple(dict.fromkeys(said))) if said else None

    def _ask(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Answers:
        return self.answers(self.studio.shas(prompts, seeds, what), what)

    def answers(self, shas: Sequence[str], what: str) -> Answers:
        """What the model says of stored pictures.  Raises LimitReachedError."""
        labels = self.target.info.labels
        told = self._class_scores(self._scored(shas, what))
        score, shown = told.log_odds, told.probability
        taken = told.decisions == np.arange(len(labels)) if told.decisions.shape[1] == 1 else told.decisions.astype(np.bool_)
        for reader in self.units:
            new = len(reader.missing(shas))
            if new > self._left:
                raise LimitReachedError("classifier_queries")
            self.sent[0] += new
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
            sent=self.sent,
            progress=lambda done, total, _what: self.progress(done, total, f"answers on {what}"),
            what="words",
        )
        if not known.keys() >= set(shas):
            raise LimitReachedError("classifier_queries")
        return np.stack([known[sha] for sha in shas])

    def _told(self, images: Images) -> ClassScores:
        """What the model says of pictures that are not stored, by their pixels; asked for once too.  Raises LimitReachedError."""
        shas = [digest("shown", image.tobytes().hex()) for image in to_uint8(images)]
        known = dict(self.scores.get(self.target.info.id, shas))
        new = {sha: at for at, sha in enumerate(shas) if sha not in known}
        if len(new) > self._left:
            raise LimitReachedError("classifier_queries")
        if new:
            told = dict(zip(new, self.target.predict(images[list(new.values())]), strict=True))
            self.sent[0] += len(new)
            self.scores.add(self.target.info.id, told)
            known |= told
        return self._class_scores(np.stack([known[sha] for sha in shas]))

    @property
    def _left(self) -> float:
        """Queries that the limit still pays for."""
        limit = self.asked.limits.classifier_queries
        return math.inf if limit is None else max(0, limit - self.sent[0])

    def _class_scores(self, scores: Scores) -> ClassScores:
        kind = ScoreKind.LABELS if self.target.labels_only else ScoreKind.PROBS
        if not self.target.labels_only and (self.independent or self.target.contract.activation.value == "sigmoid"):
            kind = ScoreKind.SIGMOID
        return class_scores(scores, kind)

    @property
    def _phrases(self) -> list[str]:
        """What pictures may be said to show, beside the bank's words."""
        return [*(node.prompt_add for node in self.tree.editable if node.prompt_add), *self.phrasing.phrases]

    def _look(self, bank: Sequence[BankWord]) -> Look | None:
        """Who looks at pictures, where anybody does."""
        if self.captioner is None and self.image_text is None:
            return None
        return PictureWords(
            audit=self.audit,
            studio=self.studio,
            phrasing=self.phrasing,
            words=[*(word.word for word in bank), *self._phrases],
            names=[label.replace("_", " ") for label in self.target.info.labels],
            captioner=self.captioner,
            open_model=self.image_text,
            known=self._known,
            q=self.asked.options.q,
            progress=self.progress,
        )

    @cached_property
    def parts(self) -> Parts:
        """Who says what belongs to a class."""
        units = [(reader, unit) for reader in self.units for unit in reader.units]
        return Parts(
            audit=self.audit,
            tree=self.tree,
            objects=self.asked.objects,
            phrasing=self.phrasing,
            studio=self.studio,
            told=lambda images: self._told(images).log_odds,
            segmenter=self.segmenter,
            real_of=self.real_of,
            units=dict(enumerate(units, len(self.target.info.labels))),
            detector=self.detector,
            concepts=self.concepts,
        )

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
        if self.captioner is not None and self.captioner.why:
            notes.append(f"pictures were described no further, and words come from elsewhere alone: {self.captioner.why}")
        nameless = [
            name for name in self.asked.classes or self.target.info.labels if self.asked.named and self._naming(name) is None
        ]
        if strange := [name for name in self.asked.objects if name not in self.target.info.labels]:
            notes.append(
                f"discover.objects names {', '.join(strange)}, which this model does not have; it has {', '.join(self.target.info.labels[:8])}"
            )
        if nameless:
            notes.append(
                f"captions of this generator do not say {', '.join(nameless[:3])}: the run with the name was left out; give their words as "
                "`discover.objects`"
            )
        if len(self.target.info.labels) > MOST_CLASSES and not self.asked.classes:
            notes.append(f"only the first {MOST_CLASSES} classes were asked about; name others as `discover.classes`")
        if not self.asked.objects and not any(node.kind is NodeKind.CORE for node in self.tree.editable):
            notes.append("nothing says what the classes are about: give `discover.objects`, or nodes of kind core in the tree")
        return tuple(notes)


def budgeted(
    asked: DiscoverConfig,
    drawn: Sequence[int],
    rows_per_picture: Callable[[], int],
    spent: Mapping[str, int] = MappingProxyType({}),
) -> Callable[[int], None]:
    """Raises LimitReachedError before a picture that the limits do not pay for, ``spent`` rows beside them included; its clock runs from now."""
    started = time.monotonic()

    def allow(pictures: int) -> None:
        limits = asked.limits
        if limits.network_rows is not None:
            rows = (drawn[0] + pictures) * rows_per_picture() if drawn[0] + pictures else 0
            if rows + spent.get("rows", 0) > limits.network_rows:
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
