"""A world as its users would bring it: labelled pictures, a table, models on a real Triton, a generator, one configuration; and its audit."""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.errors import AuditError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult, RunState
from audit_plugin.core.values import Concept
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.discovery_loop import DiscoveryLoop
from audit_plugin.sources.images import encode_png
from audit_plugin.store.store import Store
from audit_plugin.wiring import Installation, open_store
from tests.bench.planted_suite.generators import GUIDANCE
from tests.bench.planted_suite.planted import Planted
from tests.bench.planted_suite.truth import Rows, labels_of
from tests.bench.planted_suite.worlds import World

ROOT = Path(__file__).parents[3]
AUDIT = "planted suite"
CLASSES, ANSWERS, LABELS = "classes", "answers", "labels"
"""Several classes; yes or no; several independent outputs."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked."""

    rows: int = 400
    images: int = 24
    """Of each class, that the concept tree is asked on."""
    flips: int = 24
    """Images of each task that counterfactuals are made of by each method, a few more than what changes along is judged on."""
    methods: tuple[str, ...] = ("polyak", "fastdime", "dvce")
    """Of counterfactuals."""
    words: bool = True
    """Whether words are searched without data."""
    resamples: int = 1_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """One world's installation."""

    world: World
    networks: Mapping[Planted, Path]
    """Classifier -> its ONNX file."""
    rows: Rows
    generator: Path
    detector: Path
    folder: Path
    """Where everything goes; pictures drawn there before are used again."""
    size: Size = field(default_factory=Size)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Each kind of classifier is one configuration, on the same pictures."""
        return tuple(sorted({_kind(planted) for planted in self.networks}))

    def of_kind(self, kind: str) -> tuple[Planted, ...]:
        """Classifiers of one configuration."""
        return tuple(planted for planted in self.networks if _kind(planted) == kind)

    def write(self) -> None:
        """Pictures, table and model repository."""
        pictures = self.folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        columns = self._labels()
        drawn = self.world.held_out(self.rows.seeds, self.rows.values)
        with (self.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", *columns, *self.world.names])
            for at, (picture, values) in enumerate(zip(drawn, self.rows.values.tolist(), strict=True)):
                name = f"row-{at:04d}.png"
                (pictures / name).write_bytes(encode_png(picture, synthetic=False))
                levels = [one.levels[value] for one, value in zip(self.world.concepts, values, strict=True)]
                table.writerow([name, *(column[at] for column in columns.values()), *levels])
        for planted, network in self.networks.items():
            write_model(self.folder / "repository", planted.name, network, planted.classes(self.world))

    def _labels(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for planted in self.networks:
            labels, classes = labels_of(self.world, planted, self.rows, AUDIT), planted.classes(self.world)
            if not planted.multi_label:
                found[planted.name] = [classes[label] for label in labels[:, 0]]
                continue
            for at, task in enumerate(planted.rules):
                other = next(name for name in classes if name != task)
                found[f"{planted.name}.{task}"] = [task if there else other for there in labels[:, at]]
        return found

    def configure(self, url: str, kind: str) -> Loaded:
        """The configuration of one kind of classifiers, as a user would write it who has little time: few images and replicates."""
        models = [entry for planted in self.of_kind(kind) for entry in self._models(planted)]
        return self._loaded(f"audit-{kind}", self._document(url, kind, models))

    def configure_again(self, url: str, kind: str, names: Collection[str]) -> Loaded:
        """The same for some classifiers, after the user has named what discovery found: nothing is unlisted any more."""
        models = [entry for planted in self.of_kind(kind) if planted.name in names for entry in self._models(planted)]
        document = self._document(url, kind, models) | {
            "template": self.world.template,
            "concepts": _described(self.world.concepts),
            "bank": {"path": "bank-again"},
            "store": f"audit-{kind}-again.sqlite",
            "report": f"report-{kind}-again",
        }
        document.pop("discover", None)
        return self._loaded(f"audit-{kind}-again", document)

    def asked_flips(self, kind: str) -> list[tuple[str, int]]:
        """Methods of counterfactuals, each for every task that classifiers of the kind have."""
        tasks = max(len(planted.rules) or 1 for planted in self.of_kind(kind))
        return [(method, nth) for method in self.size.methods for nth in range(tasks)] if self.size.flips else []

    def configure_flips(self, url: str, kind: str, method: str, nth: int) -> Loaded:
        """The same for counterfactuals by one method; of classifiers with several tasks the ``nth`` one."""
        asked = self.of_kind(kind)
        tasks = {planted.name: self._models(planted)[nth] for planted in asked}
        files = {
            planted.name: {"file": str(self.networks[planted])}
            | ({"of_class": tasks[planted.name]["positive"]} if kind == LABELS else {})
            for planted in asked
        }
        explain = {
            "method": method,
            "images": self.size.flips,
            "kept": 30,
            "bisections": 0,
            "free": 2,
            "paths": 0,
            "gradients": files,
            "targets": self._targets(kind),
        }
        return self._loaded(f"flips-{kind}-{method}-{nth}", self._document(url, kind, list(tasks.values())) | {"explain": explain})

    def _targets(self, kind: str) -> dict[str, str]:
        """Of several classes: to and from the last one, which is what is judged; of two the other one."""
        if kind != CLASSES:
            return {}
        *others, last = self.world.concepts[0].levels
        return dict.fromkeys(others, last) | {last: others[0]}

    def _loaded(self, name: str, document: dict[str, Any]) -> Loaded:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return load(path, {})

    def _document(self, url: str, kind: str, models: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        words = {} if not self.size.words else {"discover": {"mode": "scores", "options": {"pairs": 60, "verify": 60}}}
        return {
            "version": 1,
            "audit": f"{AUDIT} {self.world.name}",
            "source": {
                "images": "pictures",
                "table": "table.csv",
                "image_column": "file",
                "label_columns": sorted({model["label"] for model in models}),
            },
            "template": self.world.listed_template,
            "concepts": _described(self.world.listed),
            "placebo_words": list(self.world.placebo_words),
            "generator": {"path": str(self.generator)}
            | ({"solver": 4} if (self.generator / "solvers.json").is_file() else {"guidance": GUIDANCE}),
            "detector": {"path": str(self.detector)},
            "bank": {"path": "bank"},
            "analysis": {"resamples": self.size.resamples},
            "controls": False,
            "diffex": {
                "operator": "auto",
                "options": {
                    "score": "sigmoid" if kind == LABELS else "probs",
                    "images_per_class": self.size.images,
                    "all_images": True,
                    "placebos": ["photo"],
                    "seed_pilot": 0,
                    "dose_nodes": 0,
                    "hit_nodes": 0,
                    "agreement_images": 0,
                    "combine": {"size": 1},
                },
            },
            **words,
            "server": {"url": url, "load": None},
            "models": [dict(model) for model in models],
            "store": f"audit-{kind}.sqlite",
            "report": f"report-{kind}",
        }

    def _models(self, planted: Planted) -> list[dict[str, str]]:
        if planted.multi_label:
            return [{"model": planted.name, "label": f"{planted.name}.{task}", "positive": task} for task in planted.rules]
        return [{"model": planted.name, "label": planted.name} | ({"positive": "positive"} if planted.rules else {})]


def _described(concepts: Sequence[Concept]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "role": one.role.value, "levels": dict(zip(one.levels, one.phrases, strict=True))} for one in concepts
    ]


def _kind(planted: Planted) -> str:
    return LABELS if planted.multi_label else ANSWERS if planted.rules else CLASSES


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """Counterfactuals of one task."""

    method: str
    result: AuditResult
    """Whose ``counterfactuals`` are those of the method."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the product said of one world."""

    results: tuple[AuditResult, ...]
    again: tuple[AuditResult, ...] = ()
    """Second audits of classifiers whose first said that it is broken, with what discovery found named."""
    flipped: tuple[Flipped, ...] = ()
    discoveries: tuple[Discovery, ...]
    """One for each classifier."""
    problems: tuple[str, ...] = ()
    """What could not be asked, in the product's words."""
    files: tuple[Path, ...] = ()
    """Reports."""
    evaluations_per_picture: int = 0
    """Of the denoising network, guidance included."""
    edit_evaluations: int = 0
    """Of all edits that the bank has, whenever they were made."""


def audited(site: Site, progress: Progress) -> Audited:
    """Serve the classifiers by a real Triton and audit them, by the parts that the commands run."""
    site.write()
    results, again, flips, words, problems, files = [], [], [], dict[str, Discovery](), [], []
    with _served(site) as server:
        for kind in site.kinds:
            loaded = site.configure(server.grpc_url, kind)
            with open_store(loaded) as store:
                installation = Installation(loaded, progress)
                found = [*installation.attempts(store)]
                told = () if not site.size.words else DiscoveryLoop(installation, store.scores).discover(confirm=lambda _: False)
                said = [*told]
                worked = [one for one in found if isinstance(one, AuditResult)]
                files += installation.report(worked, store) if worked else ()
                for method, nth in site.asked_flips(kind):
                    loaded = site.configure_flips(server.grpc_url, kind, method, nth)
                    some, refused = _flipped(loaded, method, worked, store, progress)
                    flips += some
                    problems += refused
                named = named_again(site.world, worked, [one for one in said if isinstance(one, Discovery)])
            if named:
                second = Installation(site.configure_again(server.grpc_url, kind, named), progress)
                with open_store(second.loaded) as store:
                    tried = [*second.attempts(store)]
                    spoke = [one for one in tried if isinstance(one, AuditResult)]
                    files += second.report(spoke, store) if spoke else ()
                again += spoke
                found += [one for one in tried if isinstance(one, AuditError)]
            results += worked
            words |= {one.model: one for one in said if isinstance(one, Discovery)}
            problems += [str(one) for one in (*found, *said) if isinstance(one, AuditError)]
    studio = installation.plain_studio
    return Audited(
        results=tuple(results),
        again=tuple(again),
        flipped=tuple(flips),
        discoveries=tuple(words.values()),
        problems=tuple(problems),
        files=tuple(files),
        evaluations_per_picture=installation.generator.evaluations_per_image,
        edit_evaluations=0 if studio.editor is None else studio.store.spent(studio.drafting.editor_name).network_rows,
    )


def named_again(world: World, audits: Sequence[AuditResult], discoveries: Sequence[Discovery]) -> set[str]:
    """Classifiers whose audit is broken and tells its reader to ask discovery, which names what nobody listed: she would list it."""
    broken = {one.model for one in audits if one.state is RunState.INVALID_GENERATOR and "audit-plugin discover" in one.headline}
    return {
        one.model
        for one in discoveries
        if one.model in broken and any(world.unlisted in world.says(word.word) for _, word in one.causes)
    }


def _flipped(
    loaded: Loaded, method: str, audits: Sequence[AuditResult], store: Store, progress: Progress
) -> tuple[list[Flipped], list[str]]:
    """Counterfactuals of the configured tasks, and what was refused."""
    found, problems = list[Flipped](), list[str]()
    installation = Installation(loaded, progress)
    asked = {model.target.model: model.label for model in loaded.models}
    last = {one.model: one for one in audits if asked.get(one.model) == one.label}
    for name in last:
        try:
            found += [Flipped(method=method, result=one) for one in installation.explained(last, store, only=name)]
        except AuditError as error:
            problems.append(f"{name} by {method}: {error}")
    return found, problems


@contextmanager
def _served(site: Site) -> Iterator[TritonServer]:
    with TritonServer(site.folder / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=site.folder / "triton.log") as server:
        yield server
