"""The environment of all pages: whatever is filled in is escaped; words and marks are those of the report."""

import datetime as dt
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.results import RunState
from audit_plugin.findings.history import LifeCycle
from audit_plugin.report import words
from audit_plugin.samples import Kind
from audit_plugin.store.jobs import JobState

STATES: Final = {
    JobState.QUEUED: ("…", "waiting"),
    JobState.RUNNING: ("▸", "under way"),
    **{JobState(state.value): words.STATE_WORDS[state] for state in RunState},
}
"""Mark and words of how a run stands; marks differ in shape, so that colour is never needed."""
TONES: Final = {
    JobState.QUEUED: "calm",
    JobState.RUNNING: "calm",
    JobState.SUCCEEDED: "good",
    JobState.SUCCEEDED_WITH_FINDINGS: "alert",
    JobState.CANCELLED: "calm",
}
"""Colours beside the marks; "alert" for the rest."""
VERDICTS: Final = {
    **{name: (mark, word) for name, (mark, word, _) in words.MARKS.items()},
    EffectState.EFFECT.value: ("●", "effect"),
    EffectState.NO_EFFECT.value: ("○", "no effect"),
}
LIVES: Final = {
    LifeCycle.OPEN: ("●", "open"),
    LifeCycle.ACKNOWLEDGED: ("◐", "acknowledged"),
    LifeCycle.RESOLVED: ("✓", "resolved"),
}
SEVERITIES: Final = {"critical": ("◆", "critical"), "warning": ("▲", "warning")}
KINDS: Final = {
    Kind.CONCEPT: ("Concepts", "synthetic, drawn from its caption", "synthetic, drawn with one concept changed"),
    Kind.NODE: ("Concept tree", "photograph through the editor, nothing asked for", "synthetic edit of the photograph"),
    Kind.COUNTERFACTUAL: ("Counterfactuals", "the image at the editor's size", "synthetic edit of the image"),
    Kind.SHORTCUT: ("Suspected shortcuts", "the image at the editor's size", "synthetic edit of the image"),
    Kind.WORD: ("Words", "synthetic, drawn without the word", "synthetic, drawn with the word"),
}
"""Experiment -> its name, and what the pictures before and after are."""


def when(time: dt.datetime) -> str:
    """A time as pages show it.

    >>> when(dt.datetime(2026, 11, 22, 8, 15, 30, tzinfo=dt.UTC))
    '2026-11-22 08:15 UTC'
    """
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def iso(time: dt.datetime) -> str:
    """For ``datetime`` attributes."""
    return time.astimezone(dt.UTC).isoformat(timespec="seconds")


def share(done: float, total: float) -> int:
    """Whole per cent, 0 where nothing is known.

    >>> share(1, 3), share(0, 0)
    (33, 0)
    """
    return int(100 * done / total) if total else 0


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def score(value: float | None) -> str:
    """A class score.

    >>> score(0.99951), score(None)
    ('0.9995', '–')
    """
    return words.number(value, 4)


TEMPLATES = Environment(
    loader=PackageLoader("audit_plugin.service"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {
    "when": when, "iso": iso, "segment": segment, "score": score, "number": words.number, "signed": words.signed,
    "interval": words.interval, "limits": words.limits, "thousands": words.thousands, "metric": words.metric_name,
    "sentence": words.sentence, "confirmation": words.confirmation,
}  # fmt: skip
_GLOBALS: dict[str, Any] = {
    "states": STATES, "tones": TONES, "verdicts": VERDICTS, "lives": LIVES, "severities": SEVERITIES, "kinds": KINDS,
    "gate_words": words.GATE_WORDS, "roles": words.ROLE_MEANINGS, "marks": words.MARKS, "dagger": words.DAGGER_MEANING, "share": share,
}  # fmt: skip
TEMPLATES.globals |= _GLOBALS
