"""Does the service stay quick with a full store?  `python -m tests.bench.service_load [--quick]`.

One store: 10,000 runs of eight models, of which one has the last word of 1,000 classes times 100 nodes of a concept tree and one of 100 concepts.
Scrapes go through prometheus_client's text format, as an exporter answers them: the first ones of a process that has just opened the store, and
those after, while nothing new is stored.  Pages are timed on the same store: :func:`filled` makes it, and each gives a row like those of scrapes.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from prometheus_client import generate_latest

from audit_plugin.core.results import AuditResult
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.collector import AuditCollector, registry
from audit_plugin.metrics.samples import MAX_SERIES_PER_AUDIT
from audit_plugin.store.records import new_run_id
from audit_plugin.store.store import Store
from tests.bench.report import Cell, Report, parser, publish
from tests.bench.service_pages import visits
from tests.findings import trees
from tests.findings.examples import concept, result

TREE, CONCEPTS = "tree", "concepts"
SCRAPES = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__).parse_args(arguments)
    classes, runs = (100, 1_000) if options.quick else (1_000, 10_000)
    report = Report(
        name="service_load",
        question="Does the service stay quick with a full store?",
        mode="quick" if options.quick else "full",
        seeds={"effects": "0"},
    )
    with filled(classes=classes, nodes=100, concepts=100, runs=runs) as path:
        report.notes.append(
            f"- store: {runs:,} runs, {path.stat().st_size / 1e6:,.0f} MB, a tree of {classes:,} classes x 100 nodes"
        )
        scrapes(path, report)
        visits(path, report)
    publish(report, options)


@contextmanager
def filled(*, classes: int, nodes: int, concepts: int, runs: int) -> Iterator[Path]:
    """A SQLite store with so many runs, the last of which are the large ones."""
    with TemporaryDirectory() as workdir:
        path = Path(workdir) / "audit.sqlite"
        store = Store.open(path, migrate=True)
        small = conclude(result(), default_policy())
        for at in range(runs - 2):
            store.save(replace(small, run=new_run_id(), model=f"model-{at % 6}", version=str(1 + at // 1_000)))
        for large in (wide(concepts), broad(classes, nodes)):
            store.save(conclude(replace(large, run=new_run_id()), default_policy()))
        store.close()
        yield path


def broad(classes: int, nodes: int) -> AuditResult:
    """A tree with one node in a hundred in breach."""
    rng = np.random.default_rng(0)
    kinds = (trees.ARTEFACT, trees.NUISANCE, trees.QUALITY, trees.CORE)
    told = [
        trees.class_effects(
            *(
                trees.node(
                    f"scene/node-{at}",
                    kinds[at % 4],
                    effect,
                    class_name=f"class-{number}",
                    spuriousness=0.4 if at == 0 else abs(effect) / 10,
                )
                for at, effect in enumerate(rng.normal(0, 0.4, nodes).tolist())
            ),
            class_name=f"class-{number}",
            hits=(),
        )
        for number in range(classes)
    ]
    return result(model=TREE, concepts=(), diffex=trees.tree(classes=tuple(told), drift=None))


def wide(concepts: int) -> AuditResult:
    """An audit of many concepts, a tenth of them in breach."""
    return result(
        model=CONCEPTS, concepts=tuple(concept(f"concept-{at}", low=0.06 if at % 10 == 0 else -0.01) for at in range(concepts))
    )


def scrapes(path: Path, report: Report) -> None:
    """Time scrapes of a service that starts on this store; fills rows and figures."""
    clock = time.perf_counter()
    store = Store.open(path)
    opened = time.perf_counter() - clock
    exported = registry(AuditCollector(store=store))
    times, spent, start = list[float](), list[float](), time.perf_counter()
    text = generate_latest(exported)
    first = 1_000 * (time.perf_counter() - start)
    while b"audit_plugin_series_dropped{" not in text:
        text = generate_latest(exported)
    complete = 1_000 * (time.perf_counter() - start)
    for _ in range(SCRAPES):
        clock, cpu = time.perf_counter(), time.process_time()
        text = generate_latest(exported)
        times.append(1_000 * (time.perf_counter() - clock))
        spent.append(1_000 * (time.process_time() - cpu))
    store.close()
    series = [line for line in text.decode().splitlines() if not line.startswith("#")]
    dropped = sum(float(line.rsplit(" ", 1)[1]) for line in series if line.startswith("audit_plugin_series_dropped"))
    report.rows += [
        _row("opening the store", [1_000 * opened]),
        _row("first scrape after a start", [first]),
        _row("until a scrape has all series", [complete]),
        _row("scrape", times),
    ]
    report.figures |= {
        "metrics_ms": statistics.median(times),
        "metrics_ms_worst": max(times),
        "metrics_cpu_ms": statistics.median(spent),
        "metrics_first_ms": first,
        "metrics_complete_ms": complete,
        "series": len(series),
        "series_of_the_tree": sum(f'model="{TREE}"' in line for line in series),
        "series_dropped": dropped,
    }
    report.notes.append(f"- at most {MAX_SERIES_PER_AUDIT} series of one audit; {len(text) / 1e3:,.0f} kB a scrape")


def _row(what: str, milliseconds: Sequence[float]) -> dict[str, Cell]:
    return {
        "what": what,
        "times": len(milliseconds),
        "median ms": round(statistics.median(milliseconds), 1),
        "worst ms": round(max(milliseconds), 1),
    }


if __name__ == "__main__":
    main()
