"""Self-tests of the configured models: the last audit's pictures and answers, asked for where they are missing, and what is kept beside the bank."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog

from audit_plugin import __version__
from audit_plugin.bank.join import load_table
from audit_plugin.bank.real import loaders
from audit_plugin.bank.score import score
from audit_plugin.bank.table import BankTable
from audit_plugin.config import AuditedModel
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.errors import AuditError, ConfigError
from audit_plugin.core.results import AuditResult
from audit_plugin.core.seeds import digest
from audit_plugin.core.selftest_results import SelfTest
from audit_plugin.methods.depict.assemble import label_indices
from audit_plugin.selftesting.bench import Bench, bench_of
from audit_plugin.selftesting.edits import EditBench, edit_bench, edit_pictures
from audit_plugin.selftesting.judged import judged_digest
from audit_plugin.selftesting.kept import KeptOutcomes, keep, place_of
from audit_plugin.selftesting.planted import PlantedAudits, reduced
from audit_plugin.selftesting.run import Wanted, concluded, run_cells
from audit_plugin.store.scores import target_of
from audit_plugin.store.store import Store
from audit_plugin.studios import audited_tree
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.wiring import Installation, asked_of

LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command asks for; None takes the default."""

    concepts: tuple[str, ...] = ()
    """All that must not matter when empty."""
    sizes: tuple[float, ...]
    runs: int
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one model's self-test would take now."""

    model: str
    pictures: int
    """That the server is asked about."""
    audits: int
    known: int
    """Of them, those that were made before."""
    seconds: float | None
    """By those that were made before, else by the controls of the last audit; None where there are neither."""


@dataclass(frozen=True)
class SelfTests:
    """All models of one installation."""

    installation: Installation
    store: Store
    asked: Asked

    def price(self, only: str | None = None) -> Iterator[Price]:
        """Nothing is asked for, or written; the server says which version it serves."""
        for model in self.installation.models(only):
            with TritonClassifier.connect(model.target) as classifier:
                yield self._price(_Prepared.of(self, model, classifier))

    def results(
        self, only: str | None = None, *, told: Callable[[Price], None] = lambda _: None
    ) -> Iterator[SelfTest | AuditError]:
        """Kept as they come; a model that cannot be tested does not keep the others from it.  ``told`` hears what it takes, before."""
        for model in self.installation.models(only):
            try:
                with TritonClassifier.connect(model.target) as classifier:
                    prepared = _Prepared.of(self, model, classifier)
                    told(self._price(prepared))
                    score(
                        self.installation.bank,
                        classifier,
                        self.store.scores,
                        progress=self.installation.progress,
                        real=self.installation.real,
                    )
                yield self._tested(prepared)
            except AuditError as error:
                yield error

    def _tested(self, prepared: "_Prepared") -> SelfTest:
        audits, wanted, asked = prepared.audits(self), prepared.wanted, self.asked
        outcomes = run_cells(audits, wanted.cells, prepared.kept(self), workers=asked.workers, progress=self.installation.progress)
        told = concluded(audits, wanted, outcomes, class_name=prepared.class_name)
        keep(self.bank, told)
        return told

    def _price(self, prepared: "_Prepared") -> Price:
        cells, known = prepared.wanted.cells, prepared.kept(self).known()
        left = sum(cell not in known for cell in cells)
        made = [known[cell].seconds for cell in cells if cell in known]
        controls = prepared.last.provenance.seconds.get("controls")  # of two audits that are made as each of these
        each = sum(made) / len(made) if made else None if not controls else controls / 2
        return Price(
            model=prepared.last.model,
            pictures=prepared.missing(self),
            audits=len(cells),
            known=len(cells) - left,
            seconds=None if each is None else round(left * each / self.asked.workers, 1),
        )

    @property
    def bank(self) -> Path:
        """Beside which things are kept."""
        return Path(self.installation.loaded.config.bank.path)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """One model with its last audit."""

    last: AuditResult
    model: AuditedModel
    labels: tuple[str, ...]
    wanted: Wanted
    table: BankTable
    class_name: str

    @classmethod
    def of(cls, tests: SelfTests, model: AuditedModel, classifier: TritonClassifier) -> "_Prepared":
        """Raises ConfigError where there is no audit of what is served, on what the bank holds now."""
        installation, info = tests.installation, classifier.info
        if not installation.loaded.described:
            raise ConfigError("a self-test puts effects into concepts, and this configuration names none")
        run = tests.store.newest(only_assessed=True).get((info.model, model.label))
        if run is None:
            raise ConfigError(f"model {info.model!r} was not audited yet; `audit-plugin run` it first")
        last = tests.store.run(run)
        if target_of(last) != info.id:
            raise ConfigError(
                f"model {info.model!r} was last audited in version {last.version}, as it was configured then; version {info.version} is served: "
                "`audit-plugin run` it first"
            )
        if not installation.bank_exists or installation.bank.digest != last.provenance.bank_digest:
            raise ConfigError(f"the bank is not the one that model {info.model!r} was last audited on; `audit-plugin run` it first")
        table = load_table(installation.bank, detector=last.provenance.detector, real=installation.real)
        if last.provenance.judged_digest != _judged(installation, table, model):
            raise ConfigError(
                f"model {info.model!r} was last audited by an earlier plug-in, or with other labels, units, roles, `positive`, metric, margin or gates "
                "than now; `audit-plugin run` it first"
            )
        return cls(
            last=last,
            model=model,
            labels=info.labels,
            wanted=Wanted(concepts=_concepts(table, tests.asked.concepts), sizes=tests.asked.sizes, runs=tests.asked.runs),
            table=table,
            class_name=_class_of(table, model, info.labels),
        )

    def kept(self, tests: SelfTests) -> KeptOutcomes:
        """Whatever decides an outcome is in the key."""
        loaded = tests.installation.loaded
        place = place_of(tests.bank, self.last.model, self.last.version, self.last.label)
        alone = self.wanted.concepts  # which flips are severed where there is no effect
        key = digest(
            "selftest", __version__, target_of(self.last), self.last.label, self.class_name, self.last.provenance.bank_digest,
            self.last.provenance.detector, loaded.policy.digest, repr(reduced(loaded.config.analysis)), json.dumps(alone),
            _judged(tests.installation, self.table, self.model), json.dumps(sorted(self._card(tests).items())), _real(self.table),
            repr(loaded.config.diffex), sha256(self._rows_file(tests) or b"").hexdigest(),
        )  # fmt: skip
        return KeptOutcomes(file=place.with_name(place.name + ".outcomes.jsonl"), key=key)

    def missing(self, tests: SelfTests) -> int:
        """Pictures without an answer of this version."""
        shas = loaders(tests.installation.bank, tests.installation.real)
        return len(shas) - len(tests.store.scores.known(target_of(self.last), shas))

    def audits(self, tests: SelfTests) -> PlantedAudits:
        """All that makes outcomes."""
        installation = tests.installation
        scores = tests.store.scores.get(target_of(self.last), {*installation.bank.usable(), *installation.real.paths})
        column = self.labels.index(self.class_name)
        own = label_indices(self.table.rows, self.model.label, self.labels) == column
        bench = bench_of(
            self.table, scores, self.wanted.concepts, column, own=own, model=self.last.model, merged=bool(self.model.target.classes)
        )
        return PlantedAudits(
            bench=bench,
            edits=self._edits(tests, bench),
            audited=_bare(self.last),
            policy=installation.loaded.policy,
            options=installation.loaded.config.analysis,
            classes=self.labels,
            positive=self.model.positive,
            detector_auroc=self._card(tests),
        )

    @staticmethod
    def _card(tests: SelfTests) -> dict[str, float]:
        """What the detector's own card says of its concepts; nothing where there is no detector any more."""
        detector = tests.installation.loaded.config.detector
        card = tests.installation.detector.card.auroc if detector.table or Path(detector.path).exists() else {}
        return {name: value for name, value in card.items() if value is not None}

    def _rows_file(self, tests: SelfTests) -> bytes | None:
        """The atomic rows of the last audit by the concept tree, if it had one and they are still beside the report."""
        told, place = self.last.diffex, Path(tests.installation.loaded.config.report)
        if told is None or not told.rows_file or tests.installation.loaded.config.diffex is None:
            return None
        try:
            return ((place.parent if place.suffix in {".html", ".json", ".md"} else place) / told.rows_file).read_bytes()
        except OSError as error:
            LOG.warning("the atomic rows of the concept tree cannot be read, so its part is not tested", why=str(error))
            return None

    def _edits(self, tests: SelfTests, bench: Bench) -> EditBench | None:
        """None where the last audit had no concept tree, or none whose rows are kept and tell of this class in probabilities."""
        installation, rows = tests.installation, self._rows_file(tests)
        loaded, told = installation.loaded, self.last.diffex
        options = loaded.config.diffex
        if rows is None or told is None or options is None or told.score not in {ScoreKind.PROBS, ScoreKind.SIGMOID}:
            return None
        if not any(one.class_name == self.class_name for one in told.classes):
            return None
        classes = sorted({name for row in installation.source.rows for name in row.labels.values()})
        concepts = {one.name: one for one in bench.table.concepts}
        return edit_bench(
            rows,
            tests.store.scores.get(target_of(self.last), edit_pictures(rows)),
            tree=audited_tree(loaded, classes, generative=loaded.config.generator is not None and options.operator != "none"),
            classes_of={row.id: row.labels.get(self.model.label, "") for row in installation.source.rows},
            labels=self.labels,
            class_name=self.class_name,
            levels={
                name: (concepts[name].levels[level], len(concepts[name].levels), bench.signs[name])
                for name, level in bench.levels.items()
            },
            options=replace(asked_of(options.options, loaded, labels_only=False), score=told.score),
            model=self.last.model,
            merged=bool(self.model.target.classes),
        )


def _concepts(table: BankTable, asked: Sequence[str]) -> tuple[str, ...]:
    known = [one.name for one in table.concepts]
    if strange := [name for name in asked if name not in known]:
        raise ConfigError(f"--concept {', '.join(strange)}: there is no such concept; there are {', '.join(known)}")
    found = tuple(one.name for one in table.concepts if (one.name in asked if asked else one.role.alerts))
    if not found:
        raise ConfigError("no concept of this configuration must not matter; name one by --concept")
    return found


def _judged(installation: Installation, table: BankTable, model: AuditedModel) -> str:
    """As an audit made now would have it."""
    config = installation.loaded.config
    return judged_digest(
        table.rows, table.concepts, label=model.label, positive=model.positive, audit=config.audit, options=config.analysis
    )


def _real(table: BankTable) -> str:
    """Of the real pictures that the audit holds drawn ones against."""
    return "" if table.real is None else digest("real", *table.real.tolist())


def _class_of(table: BankTable, model: AuditedModel, labels: Sequence[str]) -> str:
    """Whose log-odds are shifted: the favourable class as the audit has it; of several, where none is, that of most rows."""
    if model.positive is not None:
        return model.positive
    if len(labels) == 2:
        return labels[1]
    told = [row.labels.get(model.label, "") for row in table.rows]
    return max(labels, key=told.count)


def _bare(result: AuditResult) -> AuditResult:
    """Without what no self-test needs: it travels to other processes."""
    return replace(result, pairs=(), diffex=None, shortcuts=(), counterfactuals=None, discovery=None, fairness=(), groups=())


def rows_of(told: SelfTest) -> list[dict[str, object]]:
    """One row per concept and part, for the terminal."""
    return [
        {
            "model": told.model,
            "concept": one.concept,
            "by": curve.part.value,
            **{
                f"{point.size:g}": f"{point.rate.value:.0%} [{point.rate.low:.0%}, {point.rate.high:.0%}]"
                if point.known
                else "broken"
                for point in curve.points
            },
            "80 %": "" if curve.size80 is None else f"{curve.size80:.2f}",
            "95 %": "" if curve.size95 is None else f"{curve.size95:.2f}",
        }
        for one in told.concepts
        for curve in one.curves
    ]


def document(told: SelfTest) -> dict[str, object]:
    """For machines."""
    return json.loads(json.dumps(asdict(told)))  # type: ignore[no-any-return]
