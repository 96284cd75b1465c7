"""What came out of one world, kept on disk: worlds may be run one at a time or side by side, and are tabled together."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from audit_plugin.core.seeds import digest
from tests.bench.planted_suite.costs import Spent
from tests.bench.planted_suite.judge import Judged
from tests.bench.report import Cell

ROOT = Path(__file__).parents[3]
_CODE = ("audit_plugin", "engines", "tests/bench/planted_suite")
_TABLED_ONLY = {"tables.py"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Claims, held against the truth, and what they took."""

    judged: tuple[Judged, ...]
    costs: tuple[dict[str, Cell], ...] = ()
    """One line for every task that was audited."""
    spent: dict[str, tuple[Spent, ...]]
    """Approach -> what it took for each task."""
    notes: tuple[str, ...] = ()
    minutes: float = 0.0
    """Wall clock, without the training of networks and generators."""


_FORM = TypeAdapter(Outcome)


def kept(path: Path, make: Callable[[], Outcome]) -> Outcome:
    """The outcome in ``path``; made, timed and written there where there is none."""
    if not path.is_file():
        started = time.monotonic()
        outcome = replace(make(), minutes=(time.monotonic() - started) / 60)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        part.replace(path)
    return _FORM.validate_json(path.read_bytes())


def code() -> str:
    """Changes with everything that an outcome depends on beside the world: what merely lays out tables is left out."""
    files = sorted(file for folder in _CODE for file in (ROOT / folder).rglob("*.py") if file.name not in _TABLED_ONLY)
    return digest(*(part for file in files for part in (file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))))
