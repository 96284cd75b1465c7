"""One HTML file for one or several audited models: no script, nothing fetched, readable where nothing else may be opened.

The results are the only source of numbers.  All text is escaped by Jinja; the one style sheet is pinned by its hash in the content
security policy, so an injected style or script would not run either.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audit_plugin.core.pictured import LOOKED_UP
from audit_plugin.core.results import AuditResult
from audit_plugin.report import (
    columns,
    controls,
    counterfactuals,
    discovery,
    dose,
    fairness,
    gates,
    selftest,
    shortcuts,
    tree,
    tree_words,
    words,
)
from audit_plugin.report.changes import Changes, changes
from audit_plugin.report.chart import chart
from audit_plugin.report.grids import grids
from audit_plugin.report.method_words import METHODS
from audit_plugin.report.pictures import GAIN, Album
from audit_plugin.report.ranking import find, order, suppressed


@dataclass(frozen=True, kw_only=True)
class Model:
    """One audited model as a column of the report."""

    name: str
    result: AuditResult
    suppressed: bool
    changes: Changes | None


def render(results: Sequence[AuditResult], images: Callable[[str], bytes | None], *, history: Sequence[AuditResult] = ()) -> str:
    """The report as one HTML page.

    ``results`` are models of the same audit, shown side by side; ``images`` gives the PNG bytes of a sha256, or None if it is lost;
    ``history`` holds earlier results of any model, from which "what changed since the last run" is told.
    """
    style = files(__package__).joinpath("templates", "style.css").read_text(encoding="utf-8")
    return _environment().get_template("report.html.j2").render(
        style=Markup(style),  # noqa: S704  our own file, without any input
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        **_view(results, Album(images), history),
    )  # fmt: skip


def _view(results: Sequence[AuditResult], album: Album, history: Sequence[AuditResult]) -> dict[str, Any]:
    return {
        "has_concepts": not results
        or any(result.concepts for result in results)
        or all(result.diffex is None and result.counterfactuals is None and result.discovery is None for result in results),
        "looked_up": bool(results) and all(result.provenance.backend == LOOKED_UP for result in results),
        "trees": tree.trees(results, album),
        "shortcuts": shortcuts.shortcuts(results, album),
        "counterfactuals": counterfactuals.counterfactuals(results, album),
        "discoveries": discovery.discoveries(results, album),
        "only_discovery": any(result.discovery for result in results)
        and all(not result.concepts and result.diffex is None and result.counterfactuals is None for result in results),
        "untestable": tree.untestable(results),
        "models": tuple(_model(result, results, history) for result in results),
        "order": order(results),
        "chart": chart(results),
        "grids": grids(results, album),
        "findings": tuple(finding for result in results for finding in result.findings),
        "gate_rows": gates.summary(results),
        "gates_of_table": gates.of_table(results),
        "gates_not_passed": gates.not_passed(results),
        "leakage": shared([(result.leakage, gates.leakage_status(result)) for result in results]),
        "squares": fairness.squares(results),
        "not_tested": shared([result.not_tested for result in results]),
        "has_truth": any(result.truth for result in results),
    }


def _model(result: AuditResult, results: Sequence[AuditResult], history: Sequence[AuditResult]) -> Model:
    name = words.short_name(result, results)
    return Model(name=name, result=result, suppressed=suppressed(result), changes=changes(result, history))


def shared(values: Sequence[Any]) -> tuple[tuple[Any, tuple[int, ...]], ...]:
    """Equal values said once: (value, positions of the models it holds for)."""
    groups: list[tuple[Any, list[int]]] = []
    for index, value in enumerate(values):
        group = next((indices for known, indices in groups if known == value), None)
        if group is None:
            groups.append((value, [index]))
        else:
            group.append(index)
    return tuple((value, tuple(indices)) for value, indices in groups)


def _apply(result: AuditResult, show: Callable[[AuditResult], str]) -> str:
    return show(result)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("audit_plugin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number, "signed": words.signed, "interval": words.interval, "limits": words.limits,
        "thousands": words.thousands, "metric": words.metric_name, "mark": words.mark, "importance": words.importance_words, "sentence": words.sentence,
        "leaks_into": words.leaks_into, "is_weak": words.is_weak, "detectable": words.detectable, "confirmation": words.confirmation,
        "p_value": words.p_value, "gate_figure": gates.figure, "missed_words": tree_words.missed_words, "too_few": tree_words.too_few, "above_bound": tree_words.above_bound, "effect_words": tree.effect_words, "effect_bar": tree.bar, "drifts": tree.drifts, "edit_failures": tree.failures, "dose_chart": dose.dose_chart, "detectors": gates.detectors, "concept_of": find, "selftest_words": selftest.selftest_words, "tested_words": selftest.tested_words, "curve_chart": selftest.curve_chart, "curve_rows": selftest.curve_rows, "curve_sizes": selftest.curve_sizes, "control_words": controls.control_words, "controls_failed": controls.controls_failed, "apply": _apply,
    }  # fmt: skip
    environment.globals |= {
        "marks": words.MARKS, "dagger": words.DAGGER_MEANING, "roles": words.ROLE_MEANINGS, "states": words.STATE_WORDS,
        "why": words.STATE_WHY, "gate_words": words.GATE_WORDS, "verdicts": words.VERDICT_WORDS, "limits_of_method": words.LIMITS, "tree_limits": words.TREE_LIMITS,
        "effect_states": tree.STATES, "shortcut_verdicts": shortcuts.VERDICTS, "dose_size": (dose.WIDTH, dose.HEIGHT), "path_size": (counterfactuals.WIDTH, counterfactuals.HEIGHT), "rungs": counterfactuals.RUNGS, "methods": METHODS, "word_parts": discovery.PARTS, "deciders": discovery.DECIDERS, "dots_size": (discovery.WIDTH, discovery.HEIGHT), "scored": discovery.scored, "discovery_limits": words.DISCOVERY_LIMITS, "effect_flags": tree.FLAGS, "check_names": tree.CHECK_NAMES, "synthetic": words.SYNTHETIC, "gain": GAIN, "find": find, "shared": shared, "figures": fairness.figures,
        "families": fairness.FAMILIES, "readings": fairness.READINGS,
        "estimate_columns": columns.ESTIMATES, "provenance_fields": columns.PROVENANCE,
    }  # fmt: skip
    return environment
