"""Audits with known truth are made once and kept, by the numbers and the code that they are made with."""

import pickle
from collections.abc import Callable
from pathlib import Path

from audit_plugin.core.results import AuditResult
from audit_plugin.core.seeds import digest
from tests.bench.audits_planted import RECIPE, Setting, audit_once
from tests.bench.report import CACHE, code

Say = Callable[[str], None]
CODE = (
    "audit_plugin/bank",
    "audit_plugin/core",
    "audit_plugin/methods/depict",
    "audit_plugin/statistics",
    "tests/bench/audits_planted.py",
)
"""What an audit's numbers come from."""
_AT_ONCE = 20


def population(
    setting: Setting, count: int, *, resamples: int, say: Say, folder: Path = CACHE / "audits_planted"
) -> list[AuditResult]:
    """``count`` audits of the setting's model, each on rows of its own; what an earlier run left in ``folder`` is taken."""
    path = folder / f"{setting.name}-{_key(setting, resamples)}.pickle"
    made: list[AuditResult] = pickle.loads(path.read_bytes()) if path.exists() else []
    while len(made) < count:
        upto = min(count, len(made) + _AT_ONCE)
        made += [audit_once(setting, number, resamples=resamples) for number in range(len(made), upto)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
        say(f"{setting.name}: {len(made)} of {count} audits")
    return made[:count]


def _key(setting: Setting, resamples: int) -> str:
    return digest("planted audits", str((setting, resamples, RECIPE)), code(CODE))[:16]
