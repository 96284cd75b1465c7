"""Concrete things from a configuration: the only module that knows both the auditor and the engines."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from audit_plugin.bank.build import BuildReport, Quality, build
from audit_plugin.bank.plan import Cost, Plan, cost, plan
from audit_plugin.bank.real import RealImages, index_real
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.verify import verify, verify_files
from audit_plugin.concepts.captions import caption
from audit_plugin.config import AuditedModel, LearnFrom, Loaded
from audit_plugin.core.errors import AuditError, BankError, CaptionError, ConfigError, GeneratorError
from audit_plugin.core.protocols import Images, Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.core.seeds import digest
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.report.document import write_report
from audit_plugin.runner import Evidence, Question, audit_model
from audit_plugin.sources.folder import FolderSource, open_folder
from audit_plugin.sources.images import encode_png, read_bytes, to_uint8
from audit_plugin.store.store import Store
from audit_plugin.target.triton import TritonClassifier


class EngineGenerator:
    """An ``engines`` pipeline as the auditor's Generator, its errors in the auditor's words."""

    def __init__(self, loaded: Loaded) -> None:
        """Load the pipeline of a configuration.  Raises GeneratorError when it, or what it needs, cannot be loaded."""
        try:
            from engines.errors import EngineError
            from engines.pipeline import load_pipeline
        except ImportError as error:
            raise GeneratorError(f"drawing needs torch and diffusers ({error}); install the 'cpu' or 'gpu' extra") from error
        self._errors = EngineError
        options = loaded.config.generator
        try:
            self.pipeline = load_pipeline(
                loaded.path(options.path),
                backend=options.backend,
                steps=options.steps,
                sampler=options.sampler,
                guidance=options.guidance,
                guidance_interval=options.guidance_interval,
                batch=options.batch,
                threads=options.threads,
                device=options.device,
                cache=loaded.path(options.cache) if options.cache else None,
            )
        except EngineError as error:
            raise GeneratorError(str(error)) from error

    @property
    def fingerprint(self) -> str:
        """Of weights and sampler settings."""
        return self.pipeline.fingerprint

    @property
    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture."""
        return self.pipeline.evaluations_per_image

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """One picture per (caption, seed)."""
        from engines.errors import CaptionTooLongError

        try:
            return self.pipeline.generate(captions, seeds)
        except CaptionTooLongError as error:
            raise CaptionError(str(error)) from error
        except self._errors as error:
            raise GeneratorError(str(error)) from error


@dataclass(frozen=True)
class Installation:
    """One configuration with its parts made on demand."""

    loaded: Loaded
    progress: Progress

    @cached_property
    def source(self) -> FolderSource:
        """The audited rows."""
        return open_folder(self.loaded.folder, self.loaded.document.columns)

    @cached_property
    def real(self) -> RealImages:
        """The audited rows' image files."""
        return index_real(self.source.rows, progress=self.progress)

    @cached_property
    def generator(self) -> EngineGenerator:
        """The engine; loading it may take a while."""
        self.progress(0, 1, "loading the generator")
        made = EngineGenerator(self.loaded)
        self.progress(1, 1, "loading the generator")
        return made

    @cached_property
    def bank(self) -> ProbeBank:
        """The probe bank, made if it is not there."""
        options = self.loaded.config.bank
        images = self.loaded.path(options.images) if options.images else ""
        return ProbeBank.create(
            self.loaded.path(options.path),
            audit=self.loaded.config.audit,
            concept_set=self.loaded.document.concept_set,
            images=images,
        )

    @cached_property
    def detector(self) -> OnnxConceptDetector:
        """The concept detector, trained first if it is not there."""
        options = self.loaded.config.detector
        path = Path(self.loaded.path(options.path))
        if not path.exists():
            self._train_detector(path)
        detector = OnnxConceptDetector(path)
        detector.check(self.loaded.document.concept_set.concepts)
        return detector

    def _train_detector(self, path: Path) -> None:
        from audit_plugin.perception.training import train_detectors

        options = self.loaded.config.detector
        if options.train is None:
            raise ConfigError(
                f"detector.path: {path} is not there; give the rows to train one on as `detector.train.where` "
                "(rows that are not audited), or a trained detector"
            )
        learn = learning_rows(self.loaded, options.train)
        units = [row.unit or row.id for row in learn.rows]
        features = self.loaded.path(options.features) if options.features else None
        train_detectors(
            learn.images(options.options.size),
            learn.values,
            self.loaded.document.concept_set.concepts,
            path,
            seed=_seed(self.loaded.config.audit),
            units=units,
            features=features,
            options=options.options,
            progress=self.progress,
        )

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
        )

    def known_fingerprint(self) -> str | None:
        """Fingerprint of the generator that built the bank, if the configured one is the same; found without loading it."""
        try:
            note = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return None
        return str(note["fingerprint"]) if note.get("identity") == self._identity() else None

    @property
    def _note(self) -> Path:
        return Path(self.loaded.path(self.loaded.config.bank.path)) / "generator.json"

    def _identity(self) -> str:
        options = self.loaded.config.generator
        settings = json.dumps([options.steps, options.sampler, options.guidance, options.guidance_interval])
        return digest("generator", settings, directory_digest(Path(self.loaded.path(options.path))))

    def evidence(self) -> Evidence:
        """A complete bank with readings.  Draws only what is missing; loads no engine when nothing is."""
        bank, built = self.bank, BuildReport(drawn=0, reused=0, rejected=0, evaluations=0, seconds=0.0)
        fingerprint = self.known_fingerprint()
        wanted = self.plan(fingerprint) if fingerprint else None
        choice, reason = "none", "the bank was complete, nothing was drawn"
        if wanted is None or wanted.recipes.keys() - bank.images().keys():
            wanted = self.plan(self.generator.fingerprint)
            choice, reason = self.generator.pipeline.choice.name, self.generator.pipeline.choice.reason
            bank.register(wanted)
            built = build(
                bank, wanted, self.generator, self._quality(), progress=self.progress, batch=self.loaded.config.generator.batch
            )
            self._note.write_text(json.dumps({"identity": self._identity(), "fingerprint": self.generator.fingerprint}))
        else:
            bank.register(wanted)
            built = replace(built, reused=len(wanted.recipes))
        verify(bank, self.detector, progress=self.progress, real=self.real)
        return Evidence(
            audit=self.loaded.config.audit,
            bank=bank,
            real=self.real,
            built=built,
            detector=self.detector.fingerprint,
            detector_auroc={name: value for name, value in self.detector.card.auroc.items() if value is not None},
            dataset_digest=self.source.digest,
            backend=choice,
            backend_reason=reason,
            config_hash=self.loaded.digest,
            config=self.loaded.text,
        )

    def _quality(self) -> Quality:
        options = self.loaded.config
        references = None
        if options.bank.refuse_duplicates:
            if options.detector.train is None:
                raise ConfigError("bank.refuse_duplicates: name the training rows as `detector.train.where` to compare with")
            references = learning_rows(self.loaded, options.detector.train).images(options.detector.options.size)
        return QualityFilter(references).reasons

    def price(self) -> Cost:
        """What building the bank would cost now; the time is measured on one batch, which is thrown away."""
        wanted = self.plan(self.generator.fingerprint)
        sample = list(wanted.recipes.values())[: self.loaded.config.generator.batch]
        self.generator.generate([recipe.caption for recipe in sample], [recipe.seed for recipe in sample])
        started = time.monotonic()
        images = self.generator.generate([recipe.caption for recipe in sample], [recipe.seed for recipe in sample])
        pngs = [encode_png(image, synthetic=True) for image in to_uint8(images)]
        rate = len(sample) / (time.monotonic() - started)
        drawn = self.bank.images().keys() if _exists(self.loaded) else ()
        return cost(
            wanted,
            drawn,
            evaluations_per_image=self.generator.evaluations_per_image,
            images_per_second=rate,
            bytes_per_image=int(np.mean([len(png) for png in pngs])) + 600,
        )

    def check_files(self) -> None:
        """Hash every picture of the bank; damaged ones are drawn again by the next build."""
        verify_files(self.bank, progress=self.progress)

    def audit(self, store: Store, *, only: str | None = None) -> tuple[AuditResult, ...]:
        """Audit all configured models (or one) and commit each result.

        A model that cannot be audited does not keep the others from it; its error is raised at the end.
        """
        evidence, results, failed = self.evidence(), [], None
        for model in self._models(only):
            try:
                with TritonClassifier.connect(model.target) as classifier:
                    results.append(audit_model(evidence, classifier, self._question(model), store, progress=self.progress))
            except AuditError as error:
                failed = failed or error
            evidence = replace(evidence, built=replace(evidence.built, evaluations=0, drawn=0, seconds=0.0))
        if failed is not None:
            raise failed
        return tuple(results)

    def _models(self, only: str | None) -> Iterator[AuditedModel]:
        found = [model for model in self.loaded.models if only is None or model.target.model == only]
        if not found:
            names = ", ".join(model.target.model for model in self.loaded.models)
            raise ConfigError(f"model {only!r} is not in the configuration; it has {names}")
        return iter(found)

    def _question(self, model: AuditedModel) -> Question:
        return Question(
            label=model.label,
            positive=model.positive,
            truth=model.truth,
            options=self.loaded.config.analysis,
            policy=self.loaded.policy,
        )

    def pictures(self) -> Callable[[str], bytes | None]:
        """sha256 -> file bytes, for the report."""
        real = self.real

        def read(sha: str) -> bytes | None:
            try:
                return read_bytes(real.paths[sha]) if sha in real.paths else self.bank.pictures.get(sha)
            except (BankError, AuditError):
                return None

        return read

    def report(self, results: Sequence[AuditResult], store: Store, where: Path | None = None) -> tuple[Path, ...]:
        """Write the report of some results, with the runs before them as history."""
        history = [
            store.run(record.run)
            for result in results
            for record in store.runs(model=result.model, label=result.label, limit=2)
            if record.run < result.run
        ]
        return write_report(where or Path(self.loaded.path(self.loaded.config.report)), results, self.pictures(), history=history)


def learning_rows(loaded: Loaded, learn: LearnFrom) -> FolderSource:
    """Rows to train on: the source with other filters, all of them."""
    folder = replace(loaded.folder, where={**loaded.folder.where, **learn.where}, rows=0)
    if folder.where == loaded.folder.where:
        raise ConfigError("train.where: choose rows that are not audited, e.g. `split: train`; it selects the audited ones now")
    return open_folder(folder, loaded.document.columns)


@contextmanager
def open_store(loaded: Loaded) -> Iterator[Store]:
    """The result store, migrated."""
    store = Store.open(loaded.store_url, migrate=True)
    try:
        yield store
    finally:
        store.close()


def train_generator(loaded: Loaded, *, device: str, seconds: float, progress: Progress) -> Path:
    """Train a generator of the configured concepts and write it to ``generator.path``; its captions are the audit's own.

    Resumes where it was killed.  Raises ConfigError without ``generator.train``, GeneratorError when it cannot be trained.
    """
    options = loaded.config.generator
    out = Path(loaded.path(options.path))
    if options.train is None:
        raise ConfigError("generator.train.where: name the rows to train the generator on (rows that are not audited)")
    try:
        from engines.errors import EngineError
        from engines.training import CaptionedImages, Recipe, train_pipeline
    except ImportError as error:
        raise GeneratorError(f"training needs torch and diffusers ({error}); install the 'cpu' or 'gpu' extra") from error
    source = learning_rows(loaded, options.train)
    budget = {"autoencoder_seconds": seconds * 0.4, "diffusion_seconds": seconds * 0.6} if seconds else {}
    try:
        recipe = TypeAdapter(Recipe).validate_python({**options.train.recipe, **budget})
        data = CaptionedImages(to_uint8(source.images(recipe.image_size)), _captions(loaded, source))
        compiled = device.startswith("cuda")
        train_pipeline(data, recipe, out, work=out.with_name(out.name + ".work"), device=device, compiled=compiled, report=progress)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"generator.train.recipe.{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    except EngineError as error:
        raise GeneratorError(str(error)) from error
    return out


def _captions(loaded: Loaded, source: FolderSource) -> list[list[str]]:
    """Per row its caption, twice, and the same with each placebo word, so that these words teach nothing."""
    concept_set = loaded.document.concept_set
    return [
        [caption(concept_set, row.values, row.rest, word) for word in ("", "", *concept_set.placebo_words)] for row in source.rows
    ]


def directory_digest(directory: Path) -> str:
    """SHA-256 over names and bytes of a directory's files; empty string when it is not there."""
    if not directory.is_dir():
        raise GeneratorError(f"generator directory {str(directory)!r} is not there; give a diffusers directory as `generator.path`")
    whole = hashlib.sha256()
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        with file.open("rb") as content:
            whole.update(f"{file.relative_to(directory)}\x1f{hashlib.file_digest(content, 'sha256').hexdigest()}\x1f".encode())
    return whole.hexdigest()


def _exists(loaded: Loaded) -> bool:
    return (Path(loaded.path(loaded.config.bank.path)) / "bank.sqlite").is_file()


def _seed(audit: str) -> int:
    from audit_plugin.core.seeds import seed

    return seed(audit, "detector") % 2**31
