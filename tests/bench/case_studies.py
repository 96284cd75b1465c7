"""What the case studies do alike: where the data lie, a real Triton, one audit with its report, charts of intervals as SVG."""

import argparse
import csv
import html
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.server import TritonServer
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.wiring import Installation, open_store
from tests.bench.report import CACHE, parser
from tests.fixtures.digits import DATA

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "case-studies" / "pictures"


def options_of(
    name: str, description: str | None, needs: Iterable[str], arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, Path]:
    """The command line of a case study, and its folder of data; ends the program, with the reason, where data are missing."""
    made = parser(description)
    made.add_argument("--data", type=Path, default=DATA, help="folder with the published data; AUDIT_PLUGIN_DATA by default")
    made.add_argument("--work", type=Path, default=CACHE / name, help="where everything goes, emptied first unless --again")
    made.add_argument("--again", action="store_true", help="keep what an earlier run has made: bank and answers are not made twice")
    made.add_argument("--pictures", type=Path, help="write the charts into this folder")
    options = made.parse_args(arguments)
    if missing := [each for each in needs if not (options.data / each).exists()]:
        sys.exit(f"{options.data} has no {', '.join(missing)}; name a folder with the published data as --data")
    if not options.again:
        shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    return options, options.data


@contextmanager
def served(work: Path) -> Iterator[str]:
    """A real Triton on ``work``/repository; its gRPC address."""
    with TritonServer(work / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=work / "triton.log") as server:
        yield server.grpc_url


def audited(document: Mapping[str, Any], work: Path, url: str, *, name: str = "audit") -> tuple[Loaded, tuple[AuditResult, ...]]:
    """The configuration written as ``<name>.yaml``, and the results of all its models; the report lies below ``work``."""
    path = work / f"{name}.yaml"
    whole = {**document, "server": {"url": url, "load": None}, "bank": {"path": f"{name}-bank"}, "controls": False}
    whole |= {"store": f"{name}.sqlite", "report": f"{name}-report"}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    loaded = load(path, {})
    with open_store(loaded) as store:
        installation = Installation(loaded, _say)
        results = installation.audit(store)
        files = installation.report(results, store)
    print(f"report: {files[-1]}", file=sys.stderr)
    return loaded, results


def real_answers(loaded: Loaded, model: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Classes of an audited model, and row -> its scores of the real picture, as the audit got them; nothing is asked anew."""
    target = next(one.target for one in loaded.models if one.target.model == model)
    with TritonClassifier.connect(target) as classifier, open_store(loaded) as store:
        rows = Installation(loaded, _say).real.by_row
        found = store.scores.get(classifier.info.id, rows.values())
        return classifier.info.labels, {row: found[sha] for row, sha in rows.items()}


def read_table(path: Path) -> list[dict[str, str]]:
    """Lines of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """A CSV file with the columns of the first row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of a chart: an estimate with its interval, and what is known to be true, where it is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    truth: float | None = None
    strong: bool = True
    """Drawn in the colour of what matters."""


def chart(title: str, bars: Sequence[Bar], *, axis: str, most: float | None = None) -> str:
    """Estimates as points with 95 % intervals, truths as open diamonds; an SVG that is readable on light and dark pages."""
    ends = [0.0, *(end for bar in bars for end in (bar.value, bar.low, bar.high, bar.truth) if end is not None)]
    low, high = min(ends), most or max(ends) * 1.05 or 1.0
    step = _step(high - low)
    first = math.floor(low / step + 1e-9) * step
    left, right, line, top = 250, 700, 26, 46
    height = top + line * len(bars) + 52

    def x(value: float) -> float:
        return left + (value - first) / (high - first) * (right - left)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" font-family="sans-serif" font-size="13">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold" fill="#1b1f24">{html.escape(title)}</text>',
    ]
    bottom = top + line * len(bars)
    for count in range(int((high - first) / step + 1e-6) + 1):
        tick = first + count * step
        colour = "#8a919b" if abs(tick) < step / 100 else "#e3e6ea"
        parts.append(f'<line x1="{x(tick):.1f}" y1="{top - 6}" x2="{x(tick):.1f}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle" fill="#57606a">{tick:.3g}</text>')
    for at, bar in enumerate(bars):
        y, colour = top + line * at + 10, "#b3261e" if bar.strong else "#1f6feb"
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end" fill="#1b1f24">{html.escape(bar.label)}</text>')
        if bar.low is not None and bar.high is not None:
            ends_at = f'x1="{x(bar.low):.1f}" y1="{y}" x2="{x(bar.high):.1f}" y2="{y}"'
            parts.append(f'<line {ends_at} stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{x(bar.value):.1f}" cy="{y}" r="5" fill="{colour}"/>')
        if bar.truth is not None:
            diamond = " ".join(f"{x(bar.truth) + dx:.1f},{y + dy}" for dx, dy in ((0, -8), (8, 0), (0, 8), (-8, 0)))
            parts.append(f'<polygon points="{diamond}" fill="none" stroke="#1b1f24" stroke-width="1.5"/>')
        parts.append(f'<text x="{right + 10}" y="{y + 4}" fill="#1b1f24">{bar.value:.3f}</text>')
    said = f"{axis}; lines: 95 % intervals" + (
        "; open diamonds: known exactly" if any(bar.truth is not None for bar in bars) else ""
    )
    parts.append(f'<text x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle" fill="#57606a">{html.escape(said)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def keep(folder: Path | None, name: str, svg: str) -> None:
    """Write a chart where charts were asked for."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(svg, encoding="utf-8")


def _step(width: float) -> float:
    """A round distance of ticks of which six or so fit."""
    rough = width / 6 or 1.0
    power = 10 ** math.floor(math.log10(rough))
    return next((step * power for step in (1, 2, 5) if step * power >= rough), 10 * power)


def _say(done: int, total: int, what: str) -> None:
    if done == total:
        print(f"{what}: {total}", file=sys.stderr, flush=True)
