"""What was said of one world, kept on disk: worlds may be run one at a time or side by side, and are judged and tabled together."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from audit_plugin.core.seeds import digest
from tests.bench.planted_suite.costs import Spent
from tests.bench.planted_suite.judge import Claim, Judged
from tests.bench.planted_suite.site import Audited
from tests.bench.planted_suite.truth import Known
from tests.bench.report import Cell, this_machine

T = TypeVar("T")
_HERE = "tests/bench/planted_suite"
TRUTH = ("audit_plugin/statistics", f"{_HERE}/truth.py", f"{_HERE}/planted.py")
PRODUCT = ("audit_plugin", "engines", *(f"{_HERE}/{name}.py" for name in ("site", "truth", "planted", "worlds")))
OTHERS = (*TRUTH, "audit_plugin/methods/depict", f"{_HERE}/others.py")


@dataclass(frozen=True, kw_only=True)
class Timed(Generic[T]):
    """Something, how long it took, and on what."""

    value: T
    minutes: float
    """Wall clock of the process that ended it; what one that was killed had kept before is not counted."""
    machine: dict[str, str] = field(default_factory=this_machine)


AUDITED, CLAIMED, KNOWN = TypeAdapter(Timed[Audited]), TypeAdapter(Timed[tuple[Claim, ...]]), TypeAdapter(Timed[tuple[Known, ...]])


def kept(path: Path, form: TypeAdapter[Timed[T]], make: Callable[[], T]) -> Timed[T]:
    """What is in ``path``; made, timed and written there where there is nothing."""
    if not path.is_file():
        started = time.monotonic()
        value = make()
        part = path.with_suffix(".part")
        part.write_bytes(form.dump_json(Timed(value=value, minutes=(time.monotonic() - started) / 60)))
        part.replace(path)
    return form.validate_json(path.read_bytes())


def contents(files: Iterable[Path]) -> str:
    """Changes with what is in any of them."""
    return digest(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Claims, held against the truth, and what they took."""

    judged: tuple[Judged, ...]
    costs: tuple[dict[str, Cell], ...] = ()
    """One line for every task that was audited."""
    spent: dict[str, list[Spent]]
    """Approach -> what it took for each task."""
    notes: tuple[str, ...] = ()
    minutes: float = 0.0
    """Wall clock, without the training of networks and generators."""
    machine: Mapping[str, str] = field(default_factory=this_machine)
    """Of the audits."""
