"""A world as its users would bring it: labelled pictures, a table, models on a real Triton, a generator, one configuration; and its audit."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.errors import AuditError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.discovery_loop import DiscoveryLoop
from audit_plugin.sources.images import encode_png
from audit_plugin.wiring import Installation, open_store
from tests.bench.planted_suite.generators import GUIDANCE
from tests.bench.planted_suite.planted import Planted
from tests.bench.planted_suite.truth import Rows, labels_of
from tests.bench.planted_suite.worlds import World

ROOT = Path(__file__).parents[3]
AUDIT = "planted suite"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked."""

    rows: int = 400
    images: int = 24
    """Of each class, that the concept tree is asked on."""
    flips: int = 24
    """Images of each classifier that counterfactuals are made of, a few more than what changes along is judged on; 0: none."""
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
    def kinds(self) -> tuple[bool, ...]:
        """Whether scores are of independent classes: each kind is one configuration, on the same pictures."""
        return tuple(sorted({planted.multi_label for planted in self.networks}))

    def of_kind(self, kind: bool) -> tuple[Planted, ...]:
        """Classifiers of one configuration."""
        return tuple(planted for planted in self.networks if planted.multi_label is kind)

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

    def configure(self, url: str, kind: bool) -> Loaded:
        """The configuration of one kind of classifiers, as a user would write it."""
        document = self._document(url, kind)
        path = self.folder / f"audit-{'labels' if kind else 'classes'}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return load(path, {})

    def _document(self, url: str, kind: bool) -> dict[str, Any]:
        asked = self.of_kind(kind)
        flips = {} if not self.size.flips else {"explain": self._explain(asked, kind)}
        words = {} if not self.size.words else {"discover": {"mode": "scores", "options": {"pairs": 60, "verify": 60}}}
        return {
            "version": 1,
            "audit": f"{AUDIT} {self.world.name}",
            "source": {
                "images": "pictures",
                "table": "table.csv",
                "image_column": "file",
                "label_columns": [column for column in self._labels() if column.partition(".")[0] in {one.name for one in asked}],
            },
            "template": self.world.listed_template,
            "concepts": [
                {
                    "name": one.name,
                    "role": one.role.value,
                    "levels": dict(zip(one.levels, one.phrases, strict=True)),
                }
                for one in self.world.listed
            ],
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
                    "score": "sigmoid" if kind else "probs",
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
            **flips,
            **words,
            "server": {"url": url, "load": None},
            "models": [entry for planted in asked for entry in self._models(planted)],
            "store": f"audit-{'labels' if kind else 'classes'}.sqlite",
            "report": f"report-{'labels' if kind else 'classes'}",
        }

    def _models(self, planted: Planted) -> list[dict[str, str]]:
        if planted.multi_label:
            return [{"model": planted.name, "label": f"{planted.name}.{task}", "positive": task} for task in planted.rules]
        return [{"model": planted.name, "label": planted.name} | ({"positive": "positive"} if planted.rules else {})]

    def _explain(self, asked: Sequence[Planted], kind: bool) -> dict[str, Any]:
        files = {
            planted.name: {"file": str(self.networks[planted])} | ({"of_class": next(iter(planted.rules))} if kind else {})
            for planted in asked
        }
        return {"images": self.size.flips, "kept": 30, "bisections": 0, "free": 2, "paths": 0, "gradients": files}


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the product said of one world."""

    results: tuple[AuditResult, ...]
    discoveries: tuple[Discovery, ...]
    problems: tuple[str, ...]
    """What could not be asked, in the product's words."""
    files: tuple[Path, ...]
    """Reports."""


def audited(site: Site, progress: Progress) -> Audited:
    """Serve the classifiers by a real Triton and audit them, by the parts that the commands run."""
    site.write()
    results, words, problems, files = [], [], [], []
    with _served(site) as server:
        for kind in site.kinds:
            loaded = site.configure(server.grpc_url, kind)
            with open_store(loaded) as store:
                installation = Installation(loaded, progress)
                found = [*installation.attempts(store)]
                told = (
                    ()
                    if not site.size.words
                    else tuple(DiscoveryLoop(installation, store.scores).discover(confirm=lambda _: False))
                )
                worked = [one for one in found if isinstance(one, AuditResult)]
                files += installation.report(worked, store) if worked else ()
            results += worked
            words += [one for one in told if isinstance(one, Discovery)]
            problems += [str(one) for one in (*found, *told) if isinstance(one, AuditError)]
    return Audited(results=tuple(results), discoveries=tuple(words), problems=tuple(problems), files=tuple(files))


@contextmanager
def _served(site: Site) -> Iterator[TritonServer]:
    with TritonServer(site.folder / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=site.folder / "triton.log") as server:
        yield server
