"""Concrete things from a configuration: the only module that knows both the auditor and the engines."""

import hashlib
import json
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
import structlog

from audit_plugin.bank.ahead import scoring_ahead
from audit_plugin.bank.arms import ScoredArms
from audit_plugin.bank.build import BuildReport, Quality, build
from audit_plugin.bank.confirmations import WatchedArms, known_answers, verifier_precision
from audit_plugin.bank.edit_price import EditCost, Pricing
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.flips import FlipStudio, answers
from audit_plugin.bank.pictured_generator import PicturedGenerator, TableDetector, pictured_generator, table_detector
from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.bank.plan import Cost, Plan, cost, plan
from audit_plugin.bank.real import RealImages, index_real
from audit_plugin.bank.reference import draw_twins, twins
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.studio import Studio
from audit_plugin.bank.verify import verify
from audit_plugin.bystanders import Bystanders
from audit_plugin.concepts.captions import caption
from audit_plugin.config import AuditedModel, ExplainConfig, GeneratorOptions, LearnFrom, Loaded, control_of, options_of
from audit_plugin.core.confirm import ToConfirm
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.editing import Editor
from audit_plugin.core.edits import EditRow
from audit_plugin.core.errors import AuditError, BankError, CaptionError, ConfigError, GeneratorError
from audit_plugin.core.protocols import Classifier, ConceptDetector, Images, Progress, ScoreTable
from audit_plugin.core.results import AuditResult, EngineUse
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.selftest_results import SelfTest
from audit_plugin.core.values import DrawnImage
from audit_plugin.discovered import known_discovery
from audit_plugin.discovering import attached
from audit_plugin.explaining import Explaining
from audit_plugin.explaining import export_vjp as write_vjp
from audit_plugin.methods.counterfactuals.items import Reader
from audit_plugin.methods.counterfactuals.price import MostCounterfactuals
from audit_plugin.methods.counterfactuals.run import Deployed, run_counterfactuals
from audit_plugin.methods.depict import check_task
from audit_plugin.methods.diffex import (
    Budget,
    DiffexOptions,
    MostEdits,
    control_effects,
    most_edits,
    row_file,
    row_file_name,
    run_diffex,
)
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.methods.shortcut import Known, Suspicion, run_shortcut
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.pricing import price_of
from audit_plugin.report.document import write_report, write_whole
from audit_plugin.runner import Evidence, Explain, Explained, Flip, Flipped, Question, Suspect, Suspected, audit_model, audit_tree
from audit_plugin.selftesting.kept import holds, known_selftest
from audit_plugin.sources.folder import FolderSource, open_folder
from audit_plugin.sources.images import encode_png, to_uint8
from audit_plugin.store.leases import audit_lease, this_process
from audit_plugin.store.store import Store
from audit_plugin.studios import (
    PipelineEditor,
    PipelineFlips,
    audited_tree,
    concept_kinds,
    known_editor,
    known_strengths,
    pilot_images,
    piloted,
    plain_studio,
    remembered_editor,
    sources_of,
)
from audit_plugin.target.guidance import GradientOptions
from audit_plugin.target.load import stop_all, totals
from audit_plugin.target.one_class import OneClass, asked_about
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.versions import version_drift
from engines.editing.costs import most_rows
from engines.pipelines.files import CAPTIONS, OUTLINES, SOLVERS

LOG = structlog.get_logger(__name__)
COMPLETE = "the bank was complete, nothing was drawn"
NULLS = ("original", "by the editor")
"""Null edits of an image: the references of exact edits and of the others."""
_TIMING_ROUNDS = 2
"""The first batch warms the engine up, the second is timed."""


class EngineGenerator:
    """An ``engines`` pipeline as the auditor's Generator, its errors in the auditor's words.

    On a CPU several threads may draw at once, each on a share of the cores: that keeps cores busier than all of them on one batch.
    """

    def __init__(self, options: GeneratorOptions, *, images: int | None = None) -> None:
        """Load the pipeline; ``images`` says how many are about to be drawn.  Raises GeneratorError when it cannot be loaded."""
        self._options = options
        with engine_errors():
            from engines.pipeline import load_pipeline

            leave = ExitStack()
            self.workers, threads = _shares(options)
            self._pipeline = load_pipeline(options.path, **_asked_plan(options), threads=threads, images=images)
            several = _several(self._pipeline, self.workers, options, leave)
        weakref.finalize(self, leave.close)
        self._several: tuple[Any, ...] = several
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for pipeline in several:
            self._idle.put(pipeline)

    @property
    def fingerprint(self) -> str:
        """Of weights and sampler settings."""
        return self._pipeline.fingerprint

    @property
    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture."""
        return self._pipeline.evaluations_per_image

    @property
    def backend(self) -> tuple[str, str]:
        """What runs the network, and why that."""
        return self._pipeline.choice.name, self._pipeline.choice.reason

    @property
    def savings(self) -> tuple[str, ...]:
        """What the configured plan leaves out of the generator's own."""
        return self._pipeline.savings

    @property
    def engines(self) -> tuple[EngineUse, ...]:
        """What each network has done so far, on all threads together."""
        return tuple(_use(self._pipeline, same) for same in zip(*(each.engines for each in self._several), strict=True))

    def reference(self) -> "EngineGenerator | None":
        """What this one's pictures are checked against: the generator's own plan in torch; None where this is it."""
        if self._pipeline.reference:
            return None
        plain = replace(
            self._options,
            backend="torch",
            precision="fp32",
            steps=None,
            sampler=None,
            guidance=None,
            guidance_interval=None,
            solver=None,
        )
        return EngineGenerator(plain)

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """A pipeline for one thread, as soon as one is free."""
        pipeline = self._idle.get()
        try:
            yield pipeline
        finally:
            self._idle.put(pipeline)

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """One picture per (caption, seed).  Thread safe; as many threads as there are workers draw at the same time."""
        with engine_errors(), self.lend() as pipeline:
            images: Images = pipeline.generate(captions, seeds)
            return images


def _asked_plan(options: GeneratorOptions) -> dict[str, Any]:
    """Who draws, and how; what decides about threads is left out."""
    return {
        "backend": options.backend,
        "steps": options.steps,
        "sampler": options.sampler,
        "guidance": options.guidance,
        "guidance_interval": options.guidance_interval,
        "solver": options.solver,
        "batch": options.batch,
        "device": options.device,
        "precision": options.precision,
        "cache": options.cache,
        "served": options.served,
    }


def _several(pipeline: Any, workers: int, options: GeneratorOptions, leave: ExitStack) -> tuple[Any, ...]:
    """Pipelines for so many threads: on a device that production uses too, all behind one worker that keeps to its share."""
    from engines.duty import DEFAULT_SHARE, Sharing
    from engines.pipelines.replicas import replicas
    from engines.pipelines.sharing import pipeline_workers
    from engines.pressure import triton_pressure

    if options.share is None and options.production is None:
        return replicas(pipeline, workers) if workers > 1 else (pipeline,)
    pressed = None if options.production is None else triton_pressure(options.production)
    sharing = Sharing(DEFAULT_SHARE if options.share is None else options.share, pressed=pressed)
    shared = leave.enter_context(pipeline_workers(pipeline, sharing=sharing))
    return tuple(leave.enter_context(shared.client(f"draw-{at}")) for at in range(workers))


def _use(pipeline: Any, same: Sequence[Any]) -> EngineUse:
    """One network, as its engines on several threads tell it."""
    stats, first = [engine.stats() for engine in same], same[0]
    return EngineUse(
        engine=first.spec.name,
        backend=first.backend,
        precision=first.spec.precision,
        items=sum(one.items for one in stats),
        padded=sum(one.padded for one in stats),
        seconds=round(sum(one.seconds for one in stats), 3),
        parity_error=None if first.certificate is None else first.certificate.error,
        refused=pipeline.choices[first.spec.name].refused,
        build_seconds=round(pipeline.choices[first.spec.name].seconds, 3),
    )


def drawing_threads(options: GeneratorOptions) -> int | None:
    """Threads of each of the engines that an audit draws with: what certificates and rankings are kept by."""
    return _shares(options)[1]


def _shares(options: GeneratorOptions) -> tuple[int, int | None]:
    """How many draw at once, and the threads of each."""
    if options.device != "cpu":
        return (1 if options.share is None and options.production is None else 2), options.threads
    import torch

    from engines.pipelines.replicas import shared_out

    return shared_out(options.threads or torch.get_num_threads())


@dataclass(frozen=True)
class Installation:
    """One configuration with its parts made on demand."""

    loaded: Loaded
    progress: Progress

    @cached_property
    def source(self) -> FolderSource:
        """The audited rows."""
        found = open_folder(self.loaded.config.source, self.loaded.document.columns, forgotten=forgotten_images(self.loaded))
        if found.forgotten:
            LOG.warning("rows are left out: their images were deleted on request", rows=found.forgotten)
        return found

    @cached_property
    def real(self) -> RealImages:
        """The audited rows' image files."""
        return index_real(self.source.rows, progress=self.progress)

    @cached_property
    def looked_up(self) -> FolderSource | None:
        """The rows whose pictures are looked up in place of drawn ones; None where an engine draws."""
        configured = self.loaded.config.generator
        if configured is None or configured.pictures is None:
            return None
        source = self.loaded.config.source
        wider = replace(source, where={**source.where, **configured.pictures.where}, rows=0)
        return open_folder(wider, self.loaded.document.columns, forgotten=forgotten_images(self.loaded))

    @cached_property
    def pictured(self) -> PicturedGenerator | None:
        """What looks pictures up in place of an engine; None where an engine draws."""
        found, config = self.looked_up, self.loaded.config
        if found is None or (options := self.loaded.generator.pictures) is None:
            return None
        if outside := sorted({row.id for row in self.source.rows} - {row.id for row in found.rows}):
            raise ConfigError(
                f"generator.pictures.where leaves out {len(outside)} of the audited rows, e.g. {outside[0]!r}; their own pictures must be among those "
                "that are looked up: widen it"
            )
        return pictured_generator(
            found.rows,
            self.loaded.document.concept_set,
            self.source.rows,
            audit=config.audit,
            options=options,
            replicates=config.bank.plan.replicates,
            identity=found.digest,
        )

    @cached_property
    def generator(self) -> EngineGenerator | PicturedGenerator:
        """The engine, which may take a while to load, or what looks pictures up.  Raises GeneratorError."""
        if self.pictured is not None:
            self.pictured.check(self.plan(self.pictured.fingerprint))
            return self.pictured
        generator_directory(self.loaded)
        self.progress(0, 1, "loading the generator")
        made = EngineGenerator(self.loaded.generator, images=len(self.plan("").recipes))
        self.progress(1, 1, "loading the generator")
        return made

    @cached_property
    def bank(self) -> ProbeBank:
        """The probe bank, made if it is not there."""
        config = self.loaded.config
        return ProbeBank.create(
            config.bank.path, audit=config.audit, concept_set=self.loaded.document.concept_set, images=config.bank.images
        )

    @property
    def bank_exists(self) -> bool:
        """Whether asking for the bank would make none."""
        return (Path(self.loaded.config.bank.path) / "bank.sqlite").is_file()

    @cached_property
    def detector(self) -> OnnxConceptDetector | TableDetector:
        """The concept detector, trained first if it is not there; or the table, where it is to say what its pictures show."""
        if self.loaded.config.detector.table and self.looked_up is not None and self.pictured is not None:
            return table_detector(self.looked_up.rows, self.loaded.document.concept_set, size=self.pictured.size)
        path = Path(self.loaded.config.detector.path)
        if not path.exists():
            train_detector(self.loaded, path, progress=self.progress)
        detector = OnnxConceptDetector(path)
        detector.check(self.loaded.document.concept_set.concepts)
        return detector

    @cached_property
    def guide(self) -> OnnxConceptDetector:
        """The classifier that guides flips of suspected concepts, trained first if it is not there; never the detector itself."""
        asked = self.loaded.config.shortcut
        if asked is None:
            raise ConfigError("shortcut: this key is required to flip suspected concepts")
        path = Path(asked.guide)
        if not path.exists():
            train_detector(self.loaded, path, progress=self.progress, purpose="guide")
        guide = OnnxConceptDetector(path)
        guide.check(self.loaded.document.concept_set.concepts)
        if guide.card.sha256 == self.detector.card.sha256:
            raise ConfigError(
                "shortcut.guide: this is the detector, which must judge flips independently; name another classifier, or a file that is "
                "not there, so that one is trained on the rows of `detector.train`"
            )
        return guide

    def plan(self, fingerprint: str) -> Plan:
        """All probes of the audit for a generator."""
        config = self.loaded.config
        return plan(
            self.source.rows,
            self.loaded.document.concept_set,
            generator=fingerprint,
            audit=config.audit,
            options=config.bank.plan,
            caption=caption,
            drawable=None if self.pictured is None else self.pictured.shows,
        )

    def complete_plan(self) -> Plan | None:
        """The audit's plan, if the bank has every picture of it; found out without loading the generator."""
        fingerprint = known_fingerprint(self.loaded) if self.pictured is None else self.pictured.fingerprint
        if fingerprint is None or not self.bank_exists:
            return None
        wanted = self.plan(fingerprint)
        return None if wanted.recipes.keys() - self.bank.images().keys() else wanted

    def evidence(self, asked: Classifier | None = None, scores: ScoreTable | None = None) -> Evidence:
        """A complete bank with readings.  Draws only what is missing; loads no engine when nothing is.

        A model that is given is asked about pictures while the next ones are drawn.
        """
        complete = self.complete_plan()
        if complete is None:
            _ = self.generator if self.pictured else generator_directory(self.loaded)  # said before a detector is trained
        detector = self.detector
        if complete is None:
            verify(self.bank, detector, progress=self.progress, real=self.real)  # a damaged file is found before hours of drawing
            with ExitStack() as both:
                ahead = both.enter_context(scoring_ahead(self.bank, asked, scores)) if asked and scores else None
                built = self._drawn(ahead or (lambda _: None))
            (backend, reason), check = self.generator.backend, self._checked()
            queries = {asked.info.id: ahead.scored} if asked and ahead else {}
            engines = self.generator.engines
        else:
            built, check = self._reused(complete), known_check(self.loaded)
            backend, reason = ("none", COMPLETE) if self.pictured is None else self.pictured.backend
            engines, queries = (), {}
        verify(self.bank, detector, progress=self.progress, real=self.real)
        return Evidence(
            audit=self.loaded.config.audit,
            bank=self.bank,
            real=self.real,
            built=built,
            detector=detector.fingerprint,
            detector_auroc={name: value for name, value in detector.card.auroc.items() if value is not None},
            dataset_digest=self.source.digest,
            backend=backend,
            backend_reason=reason,
            engines=engines,
            ahead=queries,
            savings=check.savings,
            reference=check.reference,
            twins=twins(self.bank, self.bank.plan()),
            config_hash=self.loaded.digest,
            config=self.loaded.text,
        )

    def _drawn(self, stored: Callable[[Sequence[DrawnImage]], None]) -> BuildReport:
        wanted, generator = self.plan(self.generator.fingerprint), self.generator
        return build(
            self.bank,
            wanted,
            generator,
            self._quality(),
            progress=self.progress,
            batch=self.loaded.generator.batch,
            workers=generator.workers,
            stored=stored,
            buried=forgotten_images(self.loaded),
        )

    def _checked(self) -> "DrawingCheck":
        """Draw some pictures by the reference as well, unless the reference drew the bank; remembered beside the fingerprint."""
        reference = self.generator.reference()
        if reference is not None:
            with self.bank.writer():
                draw_twins(
                    self.bank,
                    self.bank.plan(),
                    reference,
                    progress=self.progress,
                    batch=self.loaded.generator.batch,
                    workers=reference.workers,
                )
        check = DrawingCheck(savings=self.generator.savings, reference=reference is None)
        remember_fingerprint(self.loaded, self.generator.fingerprint, check)
        return check

    def _reused(self, complete: Plan) -> BuildReport:
        with self.bank.writer():
            self.bank.register(complete)
        return BuildReport(drawn=0, reused=len(complete.recipes), rejected=0, evaluations=0, seconds=0.0)

    def _quality(self) -> Quality:
        config = self.loaded.config
        if self.pictured is not None:
            return lambda images: [""] * len(images)  # nobody made them for the audit: they are as the model would get them
        if not config.bank.refuse_duplicates:
            return QualityFilter(None).reasons
        if config.detector.train is None:
            raise ConfigError("bank.refuse_duplicates: name the training rows as `detector.train.where` to compare with")
        return QualityFilter(learning_rows(self.loaded, config.detector.train).images(config.detector.options.size)).reasons

    def price(self) -> Cost:
        """What completing the bank would cost now; the time is measured on a batch, which is thrown away.  Edits have a price of their own."""
        if not self.loaded.described:
            return Cost(draw=0, reuse=0, evaluations=0, seconds=0.0, bytes=0)
        complete = self.complete_plan()
        if complete is not None:
            return cost(complete, complete.recipes, evaluations_per_image=0, images_per_second=1.0, bytes_per_image=0)
        wanted, generator = self.plan(self.generator.fingerprint), self.generator
        sample = list(wanted.recipes.values())[: self.loaded.generator.batch]
        for _ in range(_TIMING_ROUNDS):
            started = time.monotonic()
            images = generator.generate([recipe.caption for recipe in sample], [recipe.seed for recipe in sample])
            pngs = [encode_png(image, synthetic=True) for image in to_uint8(images)]
        return cost(
            wanted,
            self.bank.images() if self.bank_exists else (),
            evaluations_per_image=generator.evaluations_per_image,
            images_per_second=len(sample) / (time.monotonic() - started),
            bytes_per_image=int(np.mean([len(png) for png in pngs])) + 600,  # and its lines in the bank's table
        )

    def price_edits(self, only: str | None = None) -> tuple[EditCost, int]:
        """What the concept tree would cost now, at most, and the pictures that models are asked about; nothing is made, or written."""
        options = self.loaded.config.diffex
        if options is None:
            return EditCost(), 0
        judge = self.detector if self.loaded.described and Path(self.loaded.config.detector.path).exists() else None
        studio = self._plain_studio(self._known_or_opened(), judge)
        known = known_strengths(self.loaded, studio)
        drafting = (studio if known is None else studio.settled(known.applied(studio.tree), known.strengths)).drafting
        drafting = replace(drafting, judged=self.loaded.described)  # a detector that is still to be trained will be there
        nodes = [node for node in drafting.tree.editable if not drafting.refusal(node)]
        asked = asked_of(options.options, self.loaded, labels_only=False)
        every, queries = list[MostEdits](), 0
        for label, models in Counter(model.label for model in self.models(only)).items():
            model = next(model for model in self.models(only) if model.label == label)
            classes_of = {row.id: row.labels.get(label, "") for row in self.source.rows if row.id in studio.sources}
            classes = self._told_classes(model, sorted(set(classes_of.values())))
            most = most_edits(
                nodes, drafting.tree, sorted(studio.sources), classes, classes_of=classes_of, options=asked, models=models
            )
            every.append(most)
            queries += most.count * models + len(NULLS) * most.images * (1 + asked.seeds) * models
        name = options.operator if studio.editor is None else studio.editor.name
        pricing = Pricing(
            drafting=drafting,
            store=studio.store,
            detector="" if judge is None or studio.panel.judges else judge.fingerprint,
            rows=lambda terms: most_rows(name, terms),
            piloted=known is not None,
        )
        cost = pricing.cost(
            [some for most in every for some in most.edits],
            further=sum(most.further for most in every),
            terms=max(1, asked.combine.size),
            pilot=pilot_images(self.loaded, studio),
            scales=options.scales,
        )
        return cost, queries

    def price_counterfactuals(self, only: str | None = None) -> MostCounterfactuals | None:
        """What `explain` would take at most, over all models; None where it is not configured.

        Pictures that are there are not taken off: which they are depends on the version that is served, and the server is not asked.
        """
        asked = self.loaded.config.explain
        if asked is None:
            return None
        images = min(asked.images, len(self.source.rows))
        every = [
            price_of(
                asked,
                model.target.model,
                images=images,
                classes=max(2, len({row.labels.get(model.label, "") for row in self.source.rows})),
            )
            for model in self.models(only)
        ]
        return MostCounterfactuals(
            pictures=sum(one.pictures for one in every),
            queries=sum(one.queries for one in every),
            network_rows=sum(one.network_rows for one in every),
        )

    def attempts(self, store: Store, *, only: str | None = None) -> Iterator[AuditResult | AuditError]:
        """Audit all configured models (or one) and commit each result.

        A model that cannot be audited does not keep the others from it: its error comes in place of its result.  When none can,
        the first error is raised before anything is drawn.
        """
        models = self.models(only)
        refusals = [self.refusal(model) for model in models]
        if refusals[0] is not None and all(refusals):
            raise refusals[0]
        if not self.loaded.described:
            yield from self._by_tree(models, store)
            return
        first = models[refusals.index(None)]
        if self.loaded.config.shortcut is not None:
            _ = self.guide  # said before hours of drawing
        with TritonClassifier.connect(first.target) as classifier:
            evidence = self.evidence(classifier, store.scores)
        for model in models:
            try:
                with TritonClassifier.connect(model.target) as classifier:
                    self._check_answers(classifier, model)
                    yield audit_model(
                        evidence,
                        classifier,
                        self._question(model),
                        store,
                        progress=self.progress,
                        explain=self._explain(model, store),
                        suspect=self._suspect(model, store),
                        flip=self._flip(model, classifier, store),
                        discovery=self._discovered(classifier),
                        selftest=self._selftest(classifier.info.model, classifier.info.version, model.label),
                    )
            except AuditError as error:
                yield error
            evidence = replace(evidence, engines=(), ahead={}, built=replace(evidence.built, evaluations=0, drawn=0, seconds=0.0))

    def _by_tree(self, models: Sequence[AuditedModel], store: Store) -> Iterator[AuditResult | AuditError]:
        """Audits of a concept tree alone: nothing is drawn."""
        about = {
            "audit": self.loaded.config.audit,
            "config": self.loaded.text,
            "config_hash": self.loaded.digest,
            "dataset_digest": self.source.digest,
            "rows_digest": digest("rows", *sorted(row.id for row in self.source.rows)),
        }
        for model in models:
            try:
                explain = self._explain(model, store)
                if explain is None:
                    raise ConfigError("diffex: this key is required where there are no concepts")
                with TritonClassifier.connect(model.target) as classifier:
                    flip = self._flip(model, classifier, store)
                    yield audit_tree(
                        about, classifier, self._question(model), store, explain, flip=flip, discovery=self._discovered(classifier)
                    )
            except AuditError as error:
                yield error

    def _discovered(self, classifier: Classifier) -> Discovery | None:
        """What was found for this version before, pointing at the tree as it is now."""
        found = known_discovery(self.loaded, classifier.info.model, classifier.info.version)
        if found is None or self.loaded.config.diffex is None:
            return found
        tree = audited_tree(
            self.loaded, sorted({name for row in self.source.rows for name in row.labels.values()}), generative=True
        )
        return attached(found, {plain(node.prompt_add): node for node in tree.editable if node.prompt_add})

    def _selftest(self, model: str, version: str, label: str) -> SelfTest | None:
        """What was measured of this version before."""
        return known_selftest(Path(self.loaded.config.bank.path), model, version, label)

    def _explain(self, model: AuditedModel, store: Store) -> Explain | None:
        """How to ask this model about the configured tree; None where there is none."""
        options = self.loaded.config.diffex
        if options is None:
            return None

        def explain(classifier: Classifier) -> Explained:
            plain, sent = self.plain_studio, [0]
            budget = self._budget(plain, lambda: sent[0])
            spent = 0 if plain.editor is None else plain.editor.rows_spent()
            studio, stopped = piloted(self.loaded, plain, progress=self.progress, limit=budget.stops_pilot)
            arms = ScoredArms(studio, classifier, store.scores, self.progress, sent=sent)
            labels = {row.id: row.labels.get(model.label, "") for row in self.source.rows}
            watched, rows, made = WatchedArms(arms, studio.tree), list[EditRow](), studio.made[0]
            classes_of = {image: labels[image] for image in studio.sources}
            asked = asked_of(options.options, self.loaded, labels_only=_labels_only(classifier))
            result = run_diffex(
                watched,
                studio.tree,
                sorted(studio.sources),
                self._told_classes(model, classifier.info.labels),
                classes_of=classes_of,
                attributes=self._attributes(model.label),
                labels=classifier.info.labels,
                options=asked,
                progress=self.progress,
                sink=rows.extend,
                limits=[lambda: stopped, budget.stopped],
                affordable=budget.affordable,
                seed=seed(self.loaded.config.audit, "diffex"),
            )
            if result.stopped:
                LOG.warning(
                    "a limit stopped the edits of the concept tree; the next run goes on from the bank",
                    limit=f"diffex.limits.{result.stopped}",
                    model=classifier.info.model,
                    edits=result.edits,
                )
            result = replace(
                result,
                checks=studio.checks,
                judges=studio.judges,
                bank=studio.key,
                bank_hits=max(0, sum(bool(row.after_sha256) for row in rows) - (studio.made[0] - made)),
                drift=version_drift(rows, result, classifier.info, store, label=model.label, classes_of=classes_of, options=asked),
                **self._confirmed(watched.to_confirm),
            )
            about = classifier.info
            table = row_file(
                rows, result, model=about.model, version=about.version, labels=about.labels, classes_of=classes_of, options=asked
            )
            result = replace(result, rows_file=self._kept_rows(table, about.model, about.version, model.label))
            after = 0 if studio.editor is None else studio.editor.rows_spent()
            again = partial(
                control_effects,
                rows,
                tree=studio.tree,
                images=sorted(studio.sources),
                labels=classifier.info.labels,
                classes_of=classes_of,
                options=asked,
                seed=seed(self.loaded.config.audit, "diffex"),
            )
            return Explained(result=result, queries=arms.sent[0], evaluations=after - spent, again=again)

        return explain

    def _kept_rows(self, table: bytes, model: str, version: str, label: str) -> str:
        """Write atomic rows beside the report and return the file's name; empty, with a warning, where that cannot be done."""
        several = sum(one.target.model == model for one in self.loaded.models) > 1
        name, place = row_file_name(model, version, label if several else ""), Path(self.loaded.config.report)
        try:
            write_whole((place.parent if place.suffix in {".html", ".json", ".md"} else place) / name, table)
        except AuditError as error:
            LOG.warning("the atomic rows of the concept tree were not written", why=str(error))
            return ""
        return name

    def _budget(self, studio: Studio, queries: Callable[[], int]) -> Budget:
        """Of one model's audit by the tree; its clock runs from now."""
        options, editor = self.loaded.config.diffex, studio.editor
        if options is None:
            raise ConfigError("diffex: this key is required to edit images")
        before = 0 if editor is None else editor.rows_spent()
        return Budget(
            options.limits,
            rows=lambda: 0 if editor is None else editor.rows_spent() - before,
            queries=queries,
            rows_per_edit=0 if editor is None else sum(most_rows(editor.name, options.options.combine.size)),
        )

    def _confirmed(self, drawn: tuple[ToConfirm, ...]) -> dict[str, Any]:
        """Edits to look at, and what a person said of them so far."""
        answers = known_answers(Path(self.loaded.config.bank.path))
        return {"to_confirm": drawn, "verifier": verifier_precision(drawn, answers) if drawn else None}

    def _suspect(self, model: AuditedModel, store: Store) -> Suspect | None:
        """How to ask this model about suspected shortcuts; None where none are named."""
        asked = self.loaded.config.shortcut
        if asked is None:
            return None
        concept_set = self.loaded.document.concept_set

        def suspect(classifier: Classifier) -> Suspected:
            labels, studio, sent = classifier.info.labels, self.flip_studio, [0]
            positive = model.positive if model.positive is not None else labels[-1]
            if model.positive is None and len(labels) > 2:
                raise ConfigError(f"model {model.target.model!r} has {len(labels)} classes: shortcuts need `positive` to name one")
            rows = {row.id: row for row in self.source.rows}
            known = Known(
                column=labels.index(positive),
                positive={name: row.labels.get(model.label, "") == positive for name, row in rows.items()},
                units={name: row.unit for name, row in rows.items()},
            )
            control = control_of(asked, concept_set)
            results = tuple(
                run_shortcut(
                    studio,
                    lambda shas: answers(
                        classifier, store.scores, studio.store.pictures.pixels, shas, sent=sent, progress=self.progress
                    ),
                    Suspicion(concept=name, level=level, control=control, control_level=concept_set.concept(control).levels[-1]),
                    known,
                    seed=f"{self.loaded.config.audit}/{classifier.info.model}",
                    options=asked.options,
                )
                for name, level in asked.concepts.items()
            )
            return Suspected(results=results, queries=sent[0])

        return suspect

    def _flip(self, model: AuditedModel, classifier: TritonClassifier, store: Store) -> Flip | None:
        """How to ask this model what flips its decisions; None where that is not configured."""
        asked = self.loaded.config.explain
        if asked is None:
            return None

        def flip() -> Flipped:
            before = classifier.counts.images
            explaining = self.explaining(classifier, asked)
            target = explaining.target
            labels, positive = target.info.labels, None if isinstance(target, OneClass) else model.positive
            deployed = Deployed(
                id=target.info.id,
                labels=labels,
                positive=positive if positive is not None else labels[-1],
                answers=lambda shas: answers(
                    target, store.scores, explaining.store.pictures.pixels, shas, sent=[0], progress=self.progress
                ),
                search=explaining.ask,
                predict=target.predict,
            )
            said = target.label if isinstance(target, OneClass) else str
            described = self.loaded.described
            concepts = tuple(self.loaded.document.concept_set.concepts) if described else ()
            bystanders = Bystanders(
                asked=asked,
                target=target,
                models=[one.target for one in self.loaded.models],
                store=explaining.store,
                scores=store.scores,
                progress=self.progress,
            )
            with ExitStack() as opened:
                result = run_counterfactuals(
                    explaining.studio,
                    deployed,
                    explaining.told,
                    wanted=explaining.wanted,
                    known={row.id: said(row.labels.get(model.label, "")) for row in self.source.rows},
                    reader=Reader(detector=self.detector, concepts=concepts) if described else None,
                    further=bystanders.further(opened),
                )
            return Flipped(result=result, queries=classifier.counts.images - before, network_rows=explaining.spent[0])

        return flip

    def explained(self, last: Mapping[str, AuditResult], store: Store, *, only: str | None = None) -> Iterator[AuditResult]:
        """The models' last results with counterfactuals made now; nothing is committed but pictures and scores.

        Raises ConfigError where nothing says how, or a model was not audited in the version that is served.
        """
        if self.loaded.config.explain is None:
            raise ConfigError("explain: this key is required; `explain: {}` takes its defaults (docs/counterfactuals.md)")
        for model in self.models(only):
            name, known = model.target.model, last.get(model.target.model)
            with TritonClassifier.connect(model.target) as classifier:
                if known is None or known.version != classifier.info.version:
                    told = "was not audited yet" if known is None else f"was last audited in version {known.version}"
                    raise ConfigError(f"model {name!r} {told}, {classifier.info.version} is served; `audit-plugin run` it first")
                self._check_answers(classifier, model)
                flip = self._flip(model, classifier, store)
                if flip is not None:
                    yield replace(known, counterfactuals=flip().result)

    def explaining(self, classifier: TritonClassifier, asked: ExplainConfig) -> Explaining:
        """Counterfactuals of one connected model: its images, its guide and the editor, which is loaded when something must be made."""
        config = self.loaded.config
        own = not asked.generator
        path = Path(asked.generator or self.loaded.generator.path)
        sources = sources_of(self.source.rows, dict(self.real.by_row), described=self.loaded.described)
        ordered = tuple(sorted(sources, key=lambda one: digest(config.audit, "explain", one.image)))
        with engine_errors():
            from engines.directory import picture_side

            size = picture_side(path)
        return Explaining(
            audit=config.audit,
            asked=asked,
            target=asked_about(classifier, asked.gradients.get(classifier.info.model, GradientOptions()).of_class),
            lend=partial(self._editor_lent, None if own else path),
            fingerprint=digest(_weights(self.loaded)) if own else directory_digest(path),
            sources=ordered[: asked.images],
            references=ordered,
            size=size,
            batch=self.loaded.generator.batch if own else GeneratorOptions(path=str(path)).batch,
            store=edit_store(config.bank.path, config.bank.images),
            errors=engine_errors,
            progress=self.progress,
        )

    def _editor_lent(self, path: Path | None) -> AbstractContextManager[Any]:
        """A pipeline of the generator, or of another directory, loaded when it is first lent."""
        return (self.generator if path is None else self._other_editor(path)).lend()

    def _other_editor(self, path: Path) -> EngineGenerator:
        """The editor of counterfactuals where it is not the generator; loaded once, when it is first asked for."""
        if self._editors.get(path) is None:
            configured = self.loaded.config.generator
            options = GeneratorOptions(path=str(path)) if configured is None else replace(
                configured, path=str(path), steps=None, sampler=None, solver=None, guidance=None, guidance_interval=None
            )  # fmt: skip
            self._editors[path] = EngineGenerator(options)
        return self._editors[path]

    @cached_property
    def _editors(self) -> dict[Path, EngineGenerator]:
        return {}

    @cached_property
    def flip_studio(self) -> FlipStudio:
        """Guided flips of the audited images, made once for all models."""
        asked, config = self.loaded.config.shortcut, self.loaded.config
        if asked is None:
            raise ConfigError("shortcut: this key is required to flip suspected concepts")
        sources = sources_of(self.source.rows, dict(self.real.by_row), described=True)
        guide, plan = self.guide, (asked.kept, asked.signal, asked.scales, asked.held)
        return FlipStudio(
            audit=config.audit,
            key=digest("flips", _settings(self.loaded), _weights(self.loaded), guide.fingerprint, repr(plan)),
            sources=tuple(sorted(sources, key=lambda one: digest(config.audit, "flips", one.image))[: asked.images]),
            concepts=self.loaded.document.concept_set.concepts,
            kinds=concept_kinds(self.loaded.document.concept_set),
            maker=lambda: PipelineFlips(self.generator.lend, Path(asked.guide), guide.card.size, asked, engine_errors),
            guide=guide,
            oracle=self.detector,
            size=self.picture_size(),
            store=edit_store(config.bank.path, config.bank.images),
            batch=self.loaded.generator.batch,
            progress=self.progress,
        )

    def _attributes(self, label: str) -> dict[str, dict[str, str]]:
        """What the table knows of every image beside the label that is audited: levels of concepts, and other labels."""
        concepts = self.loaded.document.concept_set.concepts if self.loaded.described else ()
        return {
            row.id: {name: value for name, value in row.labels.items() if name != label}
            | {concept.name: concept.levels[at] for concept, at in zip(concepts, row.values, strict=False) if at >= 0}
            for row in self.source.rows
        }

    def _told_classes(self, model: AuditedModel, labels: Sequence[str]) -> tuple[str, ...]:
        """Classes whose effects are told: of two the favourable one, since the other mirrors it; else those that have images."""
        if len(labels) == 2:
            return (model.positive if model.positive is not None else labels[1],)
        counts = Counter(row.labels.get(model.label, "") for row in self.source.rows)
        return tuple(name for name, _ in counts.most_common() if name in labels)

    @cached_property
    def studio(self) -> Studio:
        """Edits of the audited images, made once for all models, at strengths that a pilot has found."""
        return piloted(self.loaded, self.plain_studio, progress=self.progress)[0]

    @cached_property
    def plain_studio(self) -> Studio:
        """The same before any pilot."""
        editor = known_editor(self._editor_note, self._editing(), self._editor) if self._edits_by_prompt else None
        return self._plain_studio(editor, self.detector if self.loaded.described else None)

    @property
    def _editor_note(self) -> Path:
        return Path(self.loaded.config.bank.path) / "editor.json"

    @property
    def _edits_by_prompt(self) -> bool:
        options = self.loaded.config.diffex
        if options is None:
            raise ConfigError("diffex: this key is required to edit images")
        return self.loaded.config.generator is not None and options.operator != "none"

    def _known_or_opened(self) -> Editor | None:
        """The editor; remembered, or loaded and not remembered."""
        if not self._edits_by_prompt:
            return None
        return remembered_editor(self._editor_note, self._editing(), self._editor) or self._editor()

    def _plain_studio(self, editor: Editor | None, detector: ConceptDetector | None) -> Studio:
        return plain_studio(
            self.loaded,
            sources_of(self.source.rows, dict(self.real.by_row), described=self.loaded.described),
            sorted({name for row in self.source.rows for name in row.labels.values()}),
            editor=editor,
            size=None if editor is None else self.picture_size(),
            detector=detector,
            progress=self.progress,
            tasks=[
                sorted({name for row in self.source.rows if (name := row.labels.get(column))})
                for column in dict.fromkeys(model.label for model in self.loaded.models)
            ],
        )

    def _editing(self) -> str:
        """Digest of everything that decides an edit."""
        options = self.loaded.config.diffex
        if options is None:
            return ""
        return digest("editing", _settings(self.loaded), _weights(self.loaded), options.operator, repr(options.skip))

    def _editor(self) -> PipelineEditor:
        options = self.loaded.config.diffex
        if options is None:
            raise ConfigError("diffex: this key is required to edit images")
        generator = self.generator
        return PipelineEditor(
            generator.lend,
            generator.workers,
            options.operator,
            options.skip,
            engine_errors,
            shelf=Path(self.loaded.config.bank.path) / "inversions" if options.inversions_gb > 0 else None,
            shelf_bytes=int(options.inversions_gb * 1e9),
        )

    def picture_size(self) -> int:
        """Side of the pictures that the generator makes, as its directory says; found out without loading it."""
        with engine_errors():
            from engines.directory import picture_side

            return picture_side(Path(self.loaded.generator.path))

    def audit(self, store: Store, *, only: str | None = None) -> tuple[AuditResult, ...]:
        """The results of :meth:`attempts`; the first error is raised when all models have had their turn."""
        results, errors = parted(self.attempts(store, only=only))
        if errors:
            raise errors[0]
        return results

    def refusal(self, model: AuditedModel) -> AuditError | None:
        """Why the model cannot be asked, or its answers not be judged."""
        try:
            with TritonClassifier.connect(model.target) as classifier:
                self._check_answers(classifier, model)
        except AuditError as error:
            return error
        return None

    def _check_answers(self, classifier: TritonClassifier, model: AuditedModel) -> None:
        """Raise TableError or ConfigError unless the model's answers can be judged as configured."""
        metric = self.loaded.config.analysis.metric
        if classifier.labels_only and metric != "accuracy":
            raise ConfigError(
                f"model {model.target.model!r} answers with classes, without scores, which {metric} cannot judge; "
                "set `analysis.metric: accuracy`, or name an output with scores"
            )
        check_task(self.source.rows, label=model.label, classes=classifier.info.labels, positive=model.positive)

    def models(self, only: str | None) -> tuple[AuditedModel, ...]:
        """The configured ones, or the one of that name.  Raises ConfigError."""
        found = tuple(model for model in self.loaded.models if only is None or model.target.model == only)
        if not found:
            names = ", ".join(model.target.model for model in self.loaded.models)
            raise ConfigError(f"model {only!r} is not in the configuration; it has {names}")
        return found

    def _question(self, model: AuditedModel) -> Question:
        return Question(
            label=model.label,
            positive=model.positive,
            truth=model.truth,
            options=self.loaded.config.analysis,
            policy=self.loaded.policy,
            controls=self.loaded.config.controls,
        )

    def pictures(self) -> Callable[[str], bytes | None]:
        """sha256 -> file bytes of a generated or edited picture, for the report; None for what is lost.

        An audit without concepts has edited pictures and no table of probes beside them.
        """
        bank = self.loaded.config.bank
        folder = PictureFolder(bank.images or str(Path(bank.path) / "images"))

        def read(sha: str) -> bytes | None:
            try:
                return folder.get(sha)
            except BankError:
                return None

        return read

    def report(self, results: Sequence[AuditResult], store: Store, where: Path | None = None) -> tuple[Path, ...]:
        """Write the report of some results, each with the run before it as history.  Needs neither real images nor engine."""
        history = [before for result in results if (before := run_before(result, store)) is not None]
        return write_report(where or Path(self.loaded.config.report), self._tested(results), self.pictures(), history=history)

    def _tested(self, results: Sequence[AuditResult]) -> tuple[AuditResult, ...]:
        """With the self-test that was made since, where it speaks of this very audit."""
        known = ((result, self._selftest(result.model, result.version, result.label)) for result in results)
        return tuple(replace(result, selftest=told) if holds(told, result) else result for result, told in known)


def asked_of(options: DiffexOptions, loaded: Loaded, *, labels_only: bool) -> DiffexOptions:
    """What the configuration leaves to the circumstances: placebos in words that the generator knows, and labels in place of scores."""
    words = loaded.document.concept_set.placebo_words
    if loaded.described and words and options.placebos == DiffexOptions().placebos:
        options = replace(options, placebos=words[: len(options.placebos)])
    return replace(options, score=ScoreKind.LABELS) if labels_only else options


def _labels_only(classifier: Classifier) -> bool:
    return isinstance(classifier, TritonClassifier) and classifier.labels_only


def parted(attempts: Iterable[AuditResult | AuditError]) -> tuple[tuple[AuditResult, ...], tuple[AuditError, ...]]:
    """Results and errors apart, when all have been made."""
    every = tuple(attempts)
    return tuple(one for one in every if isinstance(one, AuditResult)), tuple(one for one in every if isinstance(one, AuditError))


def run_before(result: AuditResult, store: Store) -> AuditResult | None:
    """The run before this one of the same model and label, if there is one."""
    runs = store.runs(model=result.model, label=result.label, limit=1, before=result.run)
    return store.run(runs[0].run) if runs else None


def known_fingerprint(loaded: Loaded) -> str | None:
    """Fingerprint of the generator that the bank was built with, if it is the configured one; found without loading it.

    Where the generator's directory is not there (a bank built elsewhere), equal settings are enough.
    """
    try:
        note = json.loads(_note(loaded).read_text(encoding="utf-8"))
        elsewhere = not Path(loaded.generator.path).is_dir()
        same = note["settings"] == _settings(loaded) and (elsewhere or note["weights"] == _weights(loaded))
        return str(note["fingerprint"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def process_health(loaded: Loaded, *, target_up: bool | None) -> ProcessHealth:
    """What a configuration says of the process that was started with it, and what its load guards did."""
    return ProcessHealth(
        target_up=target_up,
        config_reload_successful=True,
        engine_cache_bytes=_cache_bytes(loaded),
        engine_share=1.0 if loaded.config.generator is None else loaded.config.generator.share or 1.0,
        load=totals(),
    )


def _cache_bytes(loaded: Loaded) -> float | None:
    """What built engines take on disk; None where that cannot be read."""
    from engines.cache import BuildCache, default_root
    from engines.errors import CacheError

    chosen = None if loaded.config.generator is None else loaded.config.generator.cache
    try:
        return float(sum(entry.bytes for entry in BuildCache(Path(chosen) if chosen else default_root()).entries()))
    except (OSError, CacheError):
        return None


@dataclass(frozen=True, kw_only=True)
class DrawingCheck:
    """How the bank was drawn, as far as it bears on whether it is exact."""

    savings: tuple[str, ...] = ()
    """What the plan left out of the generator's own."""
    reference: bool = False
    """Whether the reference itself drew it, so that there is nothing to compare."""


def known_check(loaded: Loaded) -> DrawingCheck:
    """What was remembered with the bank; a bank of an earlier version was not checked."""
    try:
        note = json.loads(_note(loaded).read_text(encoding="utf-8"))
        return DrawingCheck(savings=tuple(note["savings"]), reference=bool(note["reference"]))
    except (OSError, ValueError, KeyError, TypeError):
        return DrawingCheck()


def remember_fingerprint(loaded: Loaded, fingerprint: str, check: DrawingCheck | None = None) -> None:
    """Write what :func:`known_fingerprint` and :func:`known_check` read, into the bank's directory."""
    note: dict[str, object] = {"settings": _settings(loaded), "weights": _weights(loaded), "fingerprint": fingerprint}
    if check is not None:
        note |= {"savings": check.savings, "reference": check.reference}
    write_whole(_note(loaded), json.dumps(note, indent=2) + "\n")


def _note(loaded: Loaded) -> Path:
    return Path(loaded.config.bank.path) / "generator.json"


def _settings(loaded: Loaded) -> str:
    options = loaded.generator
    plan = [options.steps, options.sampler, options.guidance, options.guidance_interval, options.precision]
    return digest(json.dumps(plan if options.solver is None else [*plan, options.solver, _fitted(Path(options.path))]))


def _fitted(directory: Path) -> str:
    """Digest of the solvers that were fitted to the generator."""
    try:
        return hashlib.sha256((directory / SOLVERS).read_bytes()).hexdigest()
    except OSError:
        return ""


def _weights(loaded: Loaded) -> str:
    if loaded.generator.pictures is not None:
        return ""  # no weights; the pictures have an identity of their own
    return directory_digest(Path(loaded.generator.path))


def generator_directory(loaded: Loaded) -> Path:
    """The generator's directory.  Raises GeneratorError, naming the command that makes it, when it is still to be trained."""
    if loaded.generator.pictures is not None:
        raise GeneratorError(
            "`generator.pictures` looks pictures up; what generates or edits needs a directory as `generator.path`"
        )
    directory = Path(loaded.generator.path)
    if loaded.generator.train is not None and not directory.is_dir():
        raise GeneratorError(
            f"generator directory {str(directory)!r} is not there; `audit-plugin generator train` makes it "
            "from the rows that `generator.train` names"
        )
    return directory


def export_vjp(
    loaded: Loaded, model: str, file: Path, repository: Path, *, platform: str, batches: Sequence[int], cache: Path | None
) -> Path:
    """Write the gradient of an audited model beside it; pictures are of the size of what edits.  Raises ConfigError, GradientError."""
    found = _audited(loaded, model)
    installation = Installation(loaded, lambda *_: None)
    asked = loaded.config.explain or ExplainConfig()
    with TritonClassifier.connect(found.target) as classifier:
        explaining = installation.explaining(classifier, asked)
        return write_vjp(explaining.target, explaining.shown(), file, repository, platform=platform, batches=batches, cache=cache)


def hidden_tensors(loaded: Loaded, model: str, file: Path) -> list[dict[str, object]]:
    """What inside an audited model's ONNX file can be a feature, one row each; the server is not asked.  Raises ConfigError, ExportError."""
    from engines.serving.hidden import survey

    return [
        {
            "tensor": each.name,
            "operator": each.operator,
            "kind": each.kind,
            "rank": each.rank,
            "channels": each.channels,
            "shape": "x".join(map(str, each.shape)),
            "outputs": ", ".join(each.outputs),
        }
        for each in survey(file, _audited(loaded, model).target.preprocess.size).tensors
    ]


def export_hidden(
    loaded: Loaded,
    model: str,
    file: Path,
    repository: Path,
    names: Sequence[str],
    *,
    platform: Literal["python", "onnxruntime"],
    batch: int,
    maps: bool = False,
) -> tuple[list[dict[str, object]], str]:
    """Write an audited model with hidden units as further outputs beside it: a row per tensor, and how the result was checked.

    Raises ConfigError, TargetError, EngineError.
    """
    from audit_plugin.target.hidden import IMAGES
    from audit_plugin.target.hidden import export_hidden as write_hidden

    found, source = _audited(loaded, model), Installation(loaded, lambda *_: None).source
    with TritonClassifier.connect(found.target) as classifier:
        side = max(classifier.contract.preprocess.size or (224,))  # of which the client makes what the model takes
        images = replace(source, rows=source.rows[:IMAGES]).images(side)
        written = write_hidden(classifier, images, file, repository, names, platform=platform, batch=batch, maps=maps)
    rows: list[dict[str, object]] = [
        {"model": written.directory.name, "tensor": each.name, "units": each.channels, "outputs": ", ".join(each.outputs)}
        for each in written.tensors
    ]
    return rows, str(written.parity)


def _audited(loaded: Loaded, model: str) -> AuditedModel:
    """The configured model of that name.  Raises ConfigError."""
    found = next((each for each in loaded.models if each.target.model == model), None)
    if found is None:
        raise ConfigError(
            f"no audited model is called {model!r}; there are {', '.join(each.target.model for each in loaded.models)}"
        )
    return found


def generator_digest(loaded: Loaded) -> str:
    """Of the configured generator's files and settings: all that decides a picture of a prompt.  Raises GeneratorError."""
    return digest("generator", _settings(loaded), _weights(loaded))


def directory_digest(directory: Path) -> str:
    """SHA-256 over names and bytes of a directory's files but its solvers, graphs and captions, which change no picture unless they are asked for.

    Raises GeneratorError when it is not there.
    """
    if not directory.is_dir():
        raise GeneratorError(f"generator directory {str(directory)!r} is not there; give a diffusers directory as `generator.path`")
    whole = hashlib.sha256()
    every = (path for path in directory.rglob("*") if path.is_file())
    for file in sorted(path for path in every if not _beside(path.relative_to(directory))):
        with file.open("rb") as content:
            whole.update(f"{file.relative_to(directory)}\x1f{hashlib.file_digest(content, 'sha256').hexdigest()}\x1f".encode())
    return whole.hexdigest()


def _beside(file: Path) -> bool:
    """Whether a generator's file is none of its weights or settings; what is being written begins with a dot."""
    return (
        file.name.startswith(SOLVERS)
        or file.as_posix() == CAPTIONS
        or file.parts[0] == OUTLINES
        or file.parts[0].startswith(f".{OUTLINES}")
    )


@contextmanager
def alone(loaded: Loaded, store: Store) -> Iterator[None]:
    """Nobody else runs this audit meanwhile.  Raises StoreError while a service or another command does."""
    with store.leases.held(audit_lease(loaded.config.audit), this_process(), lost=stop_all):
        yield


@contextmanager
def open_store(loaded: Loaded) -> Iterator[Store]:
    """The result store, migrated."""
    store = Store.open(loaded.store_url, migrate=True)
    try:
        yield store
    finally:
        store.close()


def forgotten_images(loaded: Loaded) -> frozenset[str]:
    """SHA-256 of images that were deleted on request; none where there is no store yet."""
    if isinstance(loaded.store_url, Path) and not loaded.store_url.is_file():
        return frozenset()
    with open_store(loaded) as store:
        return frozenset(stone.sha256 for stone in store.retention.tombstones())


def learning_rows(loaded: Loaded, learn: LearnFrom) -> FolderSource:
    """Rows to train on: the source with other filters, all of them.  Raises ConfigError when audited rows are among them."""
    source, columns, gone = loaded.config.source, loaded.document.columns, forgotten_images(loaded)
    rows = open_folder(replace(source, where={**source.where, **learn.where}, rows=0), columns, forgotten=gone)
    both = {row.id for row in rows.rows} & {row.id for row in open_folder(source, columns, forgotten=gone).rows}
    if both:
        raise ConfigError(
            f"train.where: {len(both)} of the {len(rows.rows)} rows to train on are audited, e.g. {min(both)!r}; "
            "choose rows that are not, e.g. `split: train`"
        )
    return rows


def train_detector(loaded: Loaded, path: Path, *, progress: Progress, purpose: str = "detector") -> None:
    """Train a detector of the configured concepts and write it to ``path``; other purposes start from other weights and other splits.

    Raises ConfigError without ``detector.train``.
    """
    from audit_plugin.perception.training import train_detectors

    options = loaded.config.detector
    if options.train is None:
        raise ConfigError(
            f"{'detector.path' if purpose == 'detector' else 'shortcut.guide'}: {path} is not there; give the rows to train one on as "
            "`detector.train.where` "
            "(rows that are not audited), or a trained detector"
        )
    learn = learning_rows(loaded, options.train)
    train_detectors(
        learn.images(options.options.size),
        learn.values,
        loaded.document.concept_set.concepts,
        path,
        seed=seed(loaded.config.audit, purpose) % 2**31,
        units=[row.unit or row.id for row in learn.rows],
        features=options.features,
        options=options.options,
        progress=progress,
    )


def train_generator(loaded: Loaded, *, device: str, seconds: float, progress: Progress) -> Path:
    """Train a generator of the configured concepts and write it to ``generator.path``; its captions are the audit's own.

    Resumes where it was killed.  Raises ConfigError without ``generator.train``, GeneratorError when it cannot be trained.
    """
    options, out = loaded.generator, Path(loaded.generator.path)
    if options.train is None:
        raise ConfigError("generator.train.where: name the rows to train the generator on (rows that are not audited)")
    budget = {"autoencoder_seconds": seconds * 0.4, "diffusion_seconds": seconds * 0.6} if seconds else {}
    with engine_errors():
        from engines.training import CaptionedImages, Recipe, train_pipeline

        recipe = options_of(Recipe, {**options.train.recipe, **budget}, "generator.train.recipe")
        source = learning_rows(loaded, options.train)
        data = CaptionedImages(to_uint8(source.images(recipe.image_size)), _captions(loaded, source))
        work, compiled = out.with_name(out.name + ".work"), device.startswith("cuda")
        train_pipeline(data, recipe, out, work=work, device=device, compiled=compiled, report=progress)
    return out


@dataclass(frozen=True, kw_only=True)
class SolverReport:
    """A fitted solver, as the command tells it."""

    file: str
    steps: int
    own_steps: int
    """Of the whole plan."""
    levels: tuple[int, ...]
    """Which of the plan's levels are visited."""
    error: float
    """Distance of its latents from the whole plan's, over their length."""
    plain_error: float | None
    """The same of the plan's own sampler in as many steps."""


_TIMES_DRAWN = 10
"""How often a picture is drawn while a solver is fitted: once in full, then by every candidate; by and large."""


def fit_generator_solver(loaded: Loaded, *, steps: int, pictures: int, progress: Progress) -> SolverReport:
    """Fit a solver to the configured plan on captions of the audit, with noise of its own, and write it beside the generator.

    Raises GeneratorError when the plan has none of that length, or its directory cannot be written.
    """
    options, directory = replace(loaded.generator, solver=None), generator_directory(loaded)
    captions = [recipe.caption for recipe in Installation(loaded, progress).plan("").recipes.values()]
    chosen = np.random.default_rng(seed(loaded.config.audit, "solver")).integers(len(captions), size=pictures)
    asked = [captions[at] for at in chosen.tolist()]
    seeds = [seed(loaded.config.audit, "solver", at) for at in range(pictures)]
    with engine_errors(), ExitStack() as leave:
        from engines.pipeline import load_pipeline
        from engines.pipelines.solvers import check_place, fit_plan, keep_solver

        drawn = _TIMES_DRAWN * pictures
        loading = load_pipeline(directory, **_asked_plan(options), threads=options.threads, images=drawn)
        check_place(directory, loading.solver_key)
        (pipeline,) = _several(loading, 1, options, leave)
        fit = fit_plan(pipeline, asked, seeds, steps, progress)
        file = keep_solver(directory, pipeline.solver_key, pipeline.plan, fit)
    return SolverReport(
        file=str(file),
        steps=steps,
        own_steps=pipeline.plan.steps,
        levels=fit.solver.levels,
        error=fit.error,
        plain_error=fit.plain,
    )


def _captions(loaded: Loaded, source: FolderSource) -> list[list[str]]:
    """Per row its caption, twice, and the same with each placebo word, so that these words teach nothing."""
    concept_set = loaded.document.concept_set
    return [
        [caption(concept_set, row.values, row.rest, word) for word in ("", "", *concept_set.placebo_words)] for row in source.rows
    ]


@contextmanager
def engine_errors() -> Iterator[None]:
    """What engines and their libraries raise, in the auditor's words."""
    from engines.errors import CaptionTooLongError, EngineError

    try:
        yield
    except ImportError as error:
        raise GeneratorError(f"drawing needs torch and diffusers ({error}); install the 'cpu' or 'gpu' extra") from error
    except CaptionTooLongError as error:
        raise CaptionError(str(error)) from error
    except EngineError as error:
        raise GeneratorError(str(error)) from error
