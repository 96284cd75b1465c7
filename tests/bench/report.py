"""What every benchmark does alike: options, a header with machine, versions and seeds, one table, figures; as text, JSON and Markdown.

A benchmark fills a :class:`Report` and hands it to :func:`publish`:

    options = parser(__doc__).parse_args()
    report = Report(name="scenes_render", question="how fast are scenes drawn?", seeds={"rows": "0"})
    report.rows.append({"workers": 1, "images_per_s": 900.0})
    report.figures["images_per_s"] = 900.0
    publish(report, options)
"""

import argparse
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audit_plugin.core.seeds import digest

Cell = str | int | float | bool | None
PACKAGES = ("numpy", "onnxruntime", "torch", "diffusers", "tritonclient")
ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
"""Where benchmarks keep what takes long to make; git ignores it."""


def code(parts: Sequence[str]) -> str:
    """Changes with what is in these files and folders, named from the repository's root."""
    files = sorted(file for part in parts for file in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py")))
    return digest(*(text for file in files for text in (file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))))


def this_machine() -> dict[str, str]:
    """Processor, cores, Python and the versions of what does the work."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    } | {name: found for name in PACKAGES if (found := _version(name))}


@dataclass(kw_only=True)
class Report:
    """Outcome of one benchmark run, filled as it goes."""

    name: str
    question: str
    mode: str = "full"
    """"full" or "quick"."""
    seeds: Mapping[str, str] = field(default_factory=dict)
    rows: list[dict[str, Cell]] = field(default_factory=list)
    """The table; the columns are the keys of the first row."""
    figures: dict[str, float] = field(default_factory=dict)
    """Name -> headline number, to be followed from change to change."""
    notes: list[str] = field(default_factory=list)
    tables: dict[str, list[dict[str, Cell]]] = field(default_factory=dict)
    """Further tables by title, for reading."""
    machine: Mapping[str, str] = field(default_factory=this_machine)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have: ``--quick``, ``--json FILE``, ``--markdown FILE``."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="a smaller run that ends within 10 minutes on 2 cores")
    made.add_argument("--json", type=Path, help="write rows and figures to this file")
    made.add_argument("--markdown", type=Path, help="write the tables to this file")
    return made


def publish(report: Report, options: argparse.Namespace) -> None:
    """Print the report, and write the files that were asked for."""
    print(text(report))
    for path, content in ((options.json, as_json(report)), (options.markdown, markdown(report))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


def text(report: Report) -> str:
    """The report for a terminal."""
    parts = [f"{report.name} ({report.mode}): {report.question}", *_facts(report), "", *_aligned(report.rows)]
    for title, rows in report.tables.items():
        parts += ["", title, *_aligned(rows)]
    return "\n".join([*parts, "", *(f"{name} = {_said(value)}" for name, value in report.figures.items()), *report.notes])


def as_json(report: Report) -> str:
    """The report as a document: ``rows`` and ``figures`` with what they were measured on."""
    document = {
        "name": report.name,
        "mode": report.mode,
        "machine": report.machine,
        "seeds": report.seeds,
        "figures": report.figures,
        "rows": report.rows,
        "notes": report.notes,
    }
    return json.dumps(document, indent=2) + "\n"


def markdown(report: Report) -> str:
    """The report as a page: figures first."""
    figures: list[dict[str, Cell]] = [{"figure": name, "value": value} for name, value in report.figures.items()]
    parts = [f"# {report.name}", "", report.question, "", *(f"- {fact}" for fact in [f"run: {report.mode}", *_facts(report)]), ""]
    parts += [*_pipes(figures), "", *report.notes, "", *_pipes(report.rows)]
    for title, rows in report.tables.items():
        parts += ["", f"## {title}", "", *_pipes(rows)]
    page = "\n".join(parts)
    return re.sub(r"\n{3,}", "\n\n", page) + "\n"


def _facts(report: Report) -> list[str]:
    machine_is = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    return [machine_is, "seeds: " + (", ".join(f"{name} {value!r}" for name, value in report.seeds.items()) or "none")]


def _aligned(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    if not rows:
        return []
    cells = [list(rows[0]), *([_said(row.get(name)) for name in rows[0]] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _pipes(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    if not rows:
        return []
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_said(row.get(name)) for name in rows[0]] for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _said(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
    return "" if value is None else str(value)


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
