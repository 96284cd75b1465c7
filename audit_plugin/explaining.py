"""From a configuration to counterfactuals of one deployed model: how it is guided, who edits, what the server says of the results."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from audit_plugin.bank.class_words import ClassWordShelf
from audit_plugin.bank.counterfactuals import Ask, CounterfactualStudio, Proposed
from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore
from audit_plugin.bank.shown import batched
from audit_plugin.config import ExplainConfig
from audit_plugin.core.errors import ConfigError, GradientError
from audit_plugin.core.protocols import Images, Progress, Scores
from audit_plugin.core.seeds import digest, seed
from audit_plugin.methods.counterfactuals.price import COMPARED
from audit_plugin.methods.counterfactuals.run import Told
from audit_plugin.methods.counterfactuals.targets import TargetPolicy, targets
from audit_plugin.sources.images import square, to_float
from audit_plugin.target.guidance import GradientOptions, Rung
from audit_plugin.target.one_class import Asked
from audit_plugin.target.searching import SearchAnswers, resolution

if TYPE_CHECKING:  # brings torch
    from audit_plugin.target.gradients import Pooled, StudentShelf, WatchedSurrogate

LOG = structlog.get_logger(__name__)

Lend = Callable[[], AbstractContextManager[Any]]
"""A pipeline for one thread, for as long as the context lasts."""

SIGNALS = (0.3, 0.45, 0.63, 0.78, 0.9)
"""Starts that are tried, deepest first."""
KEPT_CLASS = 0.95
SCORED = ("ensemble", "evolution", "time")
"""Methods that need no gradient."""
OWN_START = ("dvce", "ace", *SCORED)
"""Methods that start where they start, so that no start is looked for."""
POOL_STARTS = (0.63, 0.78, 0.45, 0.9, 0.3)
"""Of pictures that students are taught with, first ones first."""
STUDENTS = "students"
"""Directory of theirs, beside the bank."""
TRIAL_IMAGES = 16
"""On which a start is found."""
SEARCHES = "searches-2"
"""Changed whenever searches come to be told other scores."""
BESIDE = (
    "method", "generator", "images", "targets", "paths", "references", "word_steps", "gradients", "witness", "features", "faces", "likeness",
    "runs", "perceptual",
)  # fmt: skip
"""Settings by which pictures that are there stay what they are."""


@dataclass(frozen=True, kw_only=True)
class Explaining:
    """Everything that explaining one model version needs."""

    audit: str
    asked: ExplainConfig
    target: Asked
    lend: Lend
    """The editor, loaded when it is first lent."""
    fingerprint: str
    """Of the editor and its settings, known without loading it."""
    sources: Sequence[EditSource]
    size: int
    batch: int
    store: EditStore
    errors: Callable[[], AbstractContextManager[None]]
    """Maps what engines raise."""
    progress: Progress
    references: Sequence[EditSource] = ()
    """What words for classes are learned from, stand-ins compared with the server on, and starts found on; the images themselves when empty."""
    spent: list[int] = field(default_factory=lambda: [0])
    """Forward rows of the denoising network so far, those of finding starts and of pictures for students included."""

    @cached_property
    def guide(self) -> Any:
        """How the model's gradient is had; compared with the server on the images first."""
        from audit_plugin.target.gradients import guide

        options = self.asked.gradients.get(self.target.info.model, GradientOptions())
        found = guide(
            options,
            self.target,
            self.shown(),
            pool=self._pool,
            shelf=self._shelf(options),
            on_step=lambda done, total: self.progress(done, total, "students of the model"),
        )
        if options.file is not None and found.passed_over:
            LOG.warning("the model's own file cannot guide", instead=found.rung.value, why=found.passed_over[0])
        return found

    def shown(self) -> Images:
        """Images that stand-ins are compared with the server on: all audited ones may serve, since on a few another model says the same."""
        return self._pictures((self.references or self.sources)[:COMPARED])

    @cached_property
    def method(self) -> str:
        """As configured, or what the guide allows.  Raises ConfigError for a method that needs a gradient where there is none."""
        free = self.guide.judge is None
        if self.asked.method == "auto":
            return "ensemble" if free else "polyak"
        if free and self.asked.method not in SCORED:
            raise ConfigError(
                f"explain.method: {self.asked.method} needs the gradient of {self.target.info.model}, and there is none "
                f"({'; '.join(self.guide.passed_over)}); give `explain.gradients`, or use method ensemble, evolution or time"
            )
        return self.asked.method

    @cached_property
    def studio(self) -> CounterfactualStudio:
        """The pictures of this model version by this method."""
        from engines.guided.proposing import VERSION

        info, plan = self.target.info, picture_settings(self.asked)
        return CounterfactualStudio(
            audit=self.audit,
            key=digest(
                "explain",
                info.id,
                self.method,
                self.guide.rung.value,
                self.fingerprint,
                repr(plan),
                VERSION,
                SEARCHES,
                *self._learned_from,
            ),
            sources=self.sources,
            size=self.size,
            store=self.store,
            proposes=lambda: self._propose,
            batch=1 if self.method in SCORED else self.batch,  # particles fill the engine; a picture that is made is kept
            progress=self.progress,
        )

    @property
    def wanted(self) -> TargetPolicy:
        """Which classes images are to be given.  Raises ConfigError for a class that the model does not have."""
        info, policy = self.target.info, self.asked.targets or "runner_up"
        try:
            targets(np.eye(len(info.labels)), info.labels, policy)
        except ValueError as error:
            raise ConfigError(f"explain.targets: {error} (model {info.model!r})") from error
        return policy

    def told(self) -> Told:
        """How the pictures are made, for the record."""
        guide, watched = self.guide, self._watched
        said = guide.said if watched is None or not watched.by_students else f"{guide.said}; {watched}"
        if guide.rung is Rung.ENDPOINT and guide.judge.queries:
            said += f"; {guide.judge.queries} pictures were sent to it now"
        return Told(
            method=self.method,
            rung=guide.rung.value,
            rung_said=said,
            passed_over=tuple(guide.passed_over),
            notes=() if watched is None else tuple(watched.notes),
        )

    def ask(self, images: Images, rows: NDArray[np.int64]) -> Scores:
        """What searches are told: probabilities, made finer where the server answers labels or few decimals."""
        return self._answers(images, rows)

    @cached_property
    def _answers(self) -> SearchAnswers:
        target = self.target
        step = 1.0 if target.labels_only else resolution(target.predict(self.shown()))
        return SearchAnswers(predict=target.predict, step=step)

    def _propose(self, images: Images, seeds: Sequence[int], targets: Sequence[int], ask: Ask) -> Proposed:
        method, watched = self.method, self._watched
        if method == "time":
            return self._counted(self._by_words(images, targets))
        if watched is not None and watched.given_up:
            method = "ensemble"
        judge = None if method in SCORED else self.guide.judge
        self._answers.begin(len(images))
        with self.errors(), self.lend() as pipeline:
            robust = self._robust if method == "dvce" else None
            made = self._proposer(pipeline, method).propose(
                method, images, seeds, targets, ask, judge=judge, robust=robust, free=self.asked.free
            )
        if watched is not None and judge is not None:
            guided = ~made.free
            watched.saw(made.images[guided], np.asarray(targets)[guided], made.success[guided])
        proposed: Proposed = replace(made, queries=made.queries + self._answers.further)
        return self._counted(proposed)

    def _counted(self, made: Proposed) -> Proposed:
        self.spent[0] += int(made.network_rows.sum())
        return made

    @cached_property
    def _robust(self) -> Any:
        """For DVCE's cone; None where no file is named.  Raises GradientError for one of other classes, or that cannot be read."""
        from audit_plugin.target.gradients import read_network
        from audit_plugin.target.gradients.ladder import probabilities

        if not self.asked.robust:
            return None
        network, file, wanted = (
            read_network(Path(self.asked.robust), self.target.contract),
            self.asked.robust,
            self.target.info.labels,
        )
        if (found := probabilities(network, self.shown()[:1]).shape[1]) != len(wanted):
            raise GradientError(
                f"explain.robust: {file} answers {found} classes, the audited model {len(wanted)}; give one of the same"
            )
        return network

    @property
    def _watched(self) -> "WatchedSurrogate | None":
        """The students, where it is they who guide."""
        judge = self.guide.judge
        return judge if self.guide.rung is Rung.SURROGATE else None

    def _by_words(self, images: Images, targets: Sequence[int]) -> Proposed:
        """TIME: asks for labels alone, so that nothing is to be made finer."""
        from engines.guided.proposing_time import TimeProposer

        with self.errors(), self.lend() as pipeline:
            if pipeline.wording is None:
                raise ConfigError(
                    "explain.method: time needs an editor that draws captions, and this one takes none; name a text-to-image directory "
                    "as `explain.generator`, or use method ensemble, which needs scores alone too"
                )
            proposer = TimeProposer(
                pipeline=pipeline, learned=partial(self._words.learned, pipeline), sentences=self._words.options
            )
            made: Proposed = proposer.propose(images, targets, lambda shown, _rows: self.target.predict(shown))
        return made

    @cached_property
    def _words(self) -> ClassWordShelf:
        return ClassWordShelf(
            store=self.store,
            editor=self.fingerprint,
            model=self.target.info.id,
            labels=self.target.info.labels,
            predict=self.target.predict,
            sources=(self.references or self.sources)[: self.asked.references],
            size=self.size,
            iterations=self.asked.word_steps,
            sentence=self.asked.sentence,
            progress=self.progress,
        )

    @property
    def _learned_from(self) -> tuple[str, ...]:
        return (self._words.key,) if self.method == "time" else self._names

    @property
    def _names(self) -> tuple[str, ...]:
        """Captions by which LDCE names targets to an editor that takes words."""
        labels = self.target.info.labels if self.asked.method == "ldce" else ()
        return tuple(f"a photo of a {label.replace('_', ' ')}" for label in labels)

    def _proposer(self, pipeline: Any, method: str = "") -> Any:
        """For a method; without one only for what is drawn with nobody to guide it."""
        from engines.guided.proposing import Proposer

        plan, steps = plan_of(self.asked), pipeline.diffusion.timesteps
        if self.asked.kept > steps:
            raise ConfigError(
                f"explain.kept: the editor has {steps} steps, of which {self.asked.kept} cannot be kept; ask for fewer"
            )
        proposer = Proposer(pipeline=pipeline, plan=plan)
        if method and method not in OWN_START:
            plan = replace(plan, signal=self._signal(proposer))
        return Proposer(pipeline=pipeline, plan=plan, names=self._names)

    def _signal(self, proposer: Any) -> float:
        """The configured start, or the deepest after which the model still gives 95 % of images the class it gave before."""
        if self.asked.signal is not None:
            return self.asked.signal
        judge, key = "start of counterfactuals", digest(self.target.info.id, proposer.fingerprint, repr(self.asked.kept))
        known = self.store.readings(judge, [key])
        if key not in known:
            known = {key: {"signal": [self._deepest(proposer)]}}
            self.store.add_readings(judge, known)
        return float(known[key]["signal"][0])

    def _deepest(self, proposer: Any) -> float:
        among = self.references or self.sources  # not the few that are explained: what is found is kept for all of them
        sources = sorted(among, key=lambda source: digest(self.audit, "start", source.image))[:TRIAL_IMAGES]
        images, seeds = self._pictures(sources), [seed(self.audit, source.image, 1) for source in sources]

        def unguided(signal: float) -> Images:
            self.progress(SIGNALS.index(signal), len(SIGNALS), "starts of counterfactuals")
            return self._unguided(proposer, images, seeds, signal)

        found = deepest_start(self.target.predict, images, unguided)
        self.progress(len(SIGNALS), len(SIGNALS), "starts of counterfactuals")
        return found

    def _unguided(self, proposer: Any, images: Images, seeds: Sequence[int], signal: float) -> Images:
        self.spent[0] += len(images) * proposer.depth(signal)
        drawn: Images = proposer.kept_class(images, seeds, signal)
        return drawn

    def _pictures(self, sources: Sequence[EditSource]) -> Images:
        return to_float([square(source.load(), self.size) for source in sources])

    def _shelf(self, options: GradientOptions) -> "StudentShelf":
        """Where students of this model version are, known by all that decides what they are taught with, which is not made for it."""
        from audit_plugin.target.gradients import StudentShelf
        from engines.guided.proposing import VERSION

        asked = (
            self.fingerprint,
            self.audit,
            str(self.size),
            str(self.asked.kept),
            VERSION,
            repr(POOL_STARTS),
            str(options.queries),
        )
        shown = [source.sha256 for source in (self.references or self.sources)[: options.queries]]
        key = digest("students", self.target.info.id, repr(options.student), *asked, *shown)
        return StudentShelf(file=self.store.root / STUDENTS / f"{key}.safetensors", key=key)

    def _pool(self, most: int) -> "Pooled":
        """What students are taught with: images, and the same noised and denoised, as often as the budget allows."""
        from audit_plugin.target.gradients import Pooled

        sources = (self.references or self.sources)[:most]
        images, starts = self._pictures(sources), POOL_STARTS
        parts, made = [images], len(images)
        with self.errors(), self.lend() as pipeline:
            proposer = self._proposer(pipeline)
            wanted = [(at, row) for at in range(len(starts)) for row in range(len(images))][: most - made]
            for at, some in groupby(wanted, key=lambda one: one[0]):
                for rows in batched((row for _, row in some), self.batch):
                    seeds = [seed(self.audit, sources[row].image, 100 + at) for row in rows]
                    parts.append(self._unguided(proposer, images[rows], seeds, starts[at]))
                    made += len(rows)
                    self.progress(made, len(images) + len(wanted), "pictures for students")
        return Pooled(np.concatenate(parts), np.arange(made) >= len(images))


def deepest_start(predict: Callable[[Images], Scores], images: Images, unguided: Callable[[float], Images]) -> float:
    """The deepest of :data:`SIGNALS` after which at least 95 % of images keep their class; the shallowest where none does.

    ``unguided``: the images, noised to a start and denoised with nobody to guide them.
    """
    before = predict(images).argmax(1)
    for signal in SIGNALS:
        if float((before == predict(unguided(signal)).argmax(1)).mean()) >= KEPT_CLASS:
            return signal
    return SIGNALS[-1]


def picture_settings(asked: ExplainConfig) -> ExplainConfig:
    """The same with defaults for what changes no picture, or is named beside it."""
    plain = ExplainConfig()
    return replace(asked, **{name: getattr(plain, name) for name in BESIDE})


def plan_of(asked: ExplainConfig) -> Any:
    """How far and how hard images are edited, but for where edits start."""
    from engines.guided.proposing import ProposalPlan

    return ProposalPlan(
        kept=asked.kept, scales=asked.scales, bisections=asked.bisections, particles=asked.particles, steps=asked.steps
    )


def export_vjp(
    target: Asked,
    images: Images,
    file: Path,
    repository: Path,
    *,
    platform: str,
    batches: Sequence[int],
    cache: Path | None,
) -> Path:
    """Write ``<model>_vjp`` into a model repository: the gradient of the file that the server runs; returns its directory.

    The file is compared with the server on ``images`` first, which also say what size of picture the gradient takes.  Raises GradientError.
    """
    from audit_plugin.target.gradients import SUFFIX, Bound, agreement, read_network
    from audit_plugin.target.gradients.ladder import probabilities
    from engines.serving.export import export_classifier

    network, options = read_network(file, target.contract), GradientOptions()
    found = agreement(probabilities(network, images), target.predict(images))
    Bound(top1=options.top1, worst=options.worst).check(found, "file")
    (folder,) = export_classifier(
        network,
        repository,
        image=(3, images.shape[2], images.shape[3]),
        platform=platform,  # type: ignore[arg-type]
        buckets=batches,
        cache=cache,
        name=target.info.model + SUFFIX,
    )
    return folder
