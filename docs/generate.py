"""Writes what is taken from code and benchmarks: ``docs/configuration.md``, and two tables of the README.

python docs/generate.py
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from audit_plugin.bank.pictured_generator import PicturesOptions
from audit_plugin.bank.plan import PlanOptions
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.concepts.questions import VisionOptions
from audit_plugin.config import (
    AuditedModel,
    BankOptions,
    Config,
    DetectorOptions,
    DiffexConfig,
    DiscoverConfig,
    ExplainConfig,
    GeneratorOptions,
    JudgeOptions,
    LearnFrom,
    ShortcutConfig,
    WitnessOptions,
)
from audit_plugin.findings.policy import Policy, Threshold
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.methods.depict.gates import GateOptions
from audit_plugin.methods.diffex import DiffexLimits, DiffexOptions
from audit_plugin.methods.diffex.combine import CombineOptions
from audit_plugin.methods.diffex.estimate import EstimateOptions
from audit_plugin.methods.diffex.racing import RaceOptions
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions, GradientSearch, SubspaceSearch
from audit_plugin.methods.shortcut import ShortcutOptions
from audit_plugin.metrics.names import SPECS
from audit_plugin.perception.edit_checks import Validity
from audit_plugin.perception.features import FeatureOptions
from audit_plugin.perception.lpips import PerceptualOptions
from audit_plugin.perception.segmenters import SegmenterOptions
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.service_options import Schedule, ServeOptions
from audit_plugin.sources.folder import FolderOptions
from audit_plugin.store.retention import RetentionOptions
from audit_plugin.target.guidance import GradientOptions, StudentOptions
from audit_plugin.target.load.options import LoadOptions
from audit_plugin.target.options import PreprocessOptions, TargetOptions, TlsOptions
from engines.training import Recipe

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
README = ROOT / "README.md"
BENCHMARKS = ROOT / "docs" / "benchmarks"

SECTIONS: Mapping[str, type] = {
    "(top level)": Config,
    "source": FolderOptions,
    "generator": GeneratorOptions,
    "generator.pictures": PicturesOptions,
    "generator.train, detector.train": LearnFrom,
    "generator.train.recipe": Recipe,
    "detector": DetectorOptions,
    "detector.options": TrainingOptions,
    "bank": BankOptions,
    "bank.plan": PlanOptions,
    "models[]": AuditedModel,
    "models[], server": TargetOptions,
    "models[].preprocess": PreprocessOptions,
    "models[].tls": TlsOptions,
    "models[].load, server.load": LoadOptions,
    "analysis": DepictOptions,
    "analysis.gates": GateOptions,
    "diffex": DiffexConfig,
    "diffex.validity": Validity,
    "diffex.limits, discover.limits": DiffexLimits,
    "diffex.judge": JudgeOptions,
    "diffex.vision, discover.captioner": VisionOptions,
    "diffex.perceptual, explain.perceptual": PerceptualOptions,
    "diffex.options": DiffexOptions,
    "diffex.options.race": RaceOptions,
    "diffex.options.combine": CombineOptions,
    "diffex.options.estimate": EstimateOptions,
    "shortcut": ShortcutConfig,
    "shortcut.options": ShortcutOptions,
    "explain": ExplainConfig,
    "explain.witness": WitnessOptions,
    "explain.features, explain.faces, explain.likeness": FeatureOptions,
    "explain.gradients.<model>": GradientOptions,
    "explain.gradients.<model>.student": StudentOptions,
    "discover": DiscoverConfig,
    "discover.segmenter": SegmenterOptions,
    "discover.options": DiscoveryOptions,
    "discover.gradient": GradientSearch,
    "discover.subspace": SubspaceSearch,
    "capture": CaptureOptions,
    "policy": Policy,
    "policy.thresholds[]": Threshold,
    "retention": RetentionOptions,
    "serve": ServeOptions,
    "serve.schedules[]": Schedule,
}
"""Part of the file -> the dataclass that reads it."""

_PLAIN: Mapping[tuple[type, str], str] = {
    (Policy, "name"): "Shown in findings.",
    (Policy, "thresholds"): "The first that applies to an estimate decides about it.",
}

CONCEPTS = """\
## `concepts[]`

A list here, or a file of its own (`concepts: concepts.yaml`, or a CSV table with the columns `name, level, phrase, role`).

| key | type | default | meaning |
|---|---|---|---|
| `name` | text | required | Name in every result; letters, digits and underscores. |
| `column` | text | the name | Column of the label table. |
| `role` | core, context, nuisance, protected or artefact | context | What it is to the task; reliance on the last three can be a finding. |
| `levels` | mapping or list | required | Level -> words in the caption; in a list each level is its own phrase. |
| `kind` | categorical or numeric | categorical | Numeric: levels are quantile bins of the column, lowest first. |
| `cells` | mapping | {} | Table cell -> level, where the two are spelled differently. |
"""

HEAD = """\
# Configuration

Written by `python docs/generate.py` from the code that reads the file; a test compares the two.

One YAML file, read once. Unknown keys are errors that name the closest known one. Relative paths are relative to the file.
`AUDIT_PLUGIN__SERVER__URL=triton:8001` in the environment replaces `server.url`, and so on for every key. Secrets are never in the file:
`token_file` and `restricted_key_file` name files that hold them. `audit-plugin config check FILE` checks a file without a network,
`audit-plugin config schema` prints a JSON Schema for editors.
"""


def configuration_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, kind in SECTIONS.items():
        parts.append(_section(name, kind))
        if kind is Config:
            parts.append(CONCEPTS)
    return "\n".join(parts)


def metrics_table() -> str:
    """The table of the README."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for spec in SPECS:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        lines.append(f"| `{spec.name}` | {spec.kind} | {labels} | {_cell(spec.help)} |")
    return "\n".join(lines)


def documented(kind: type) -> dict[str, str]:
    """Field -> the docstring below it; a field without one is left out."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found, last = {}, ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last], last = " ".join(str(node.value.value).split()), ""
        else:
            last = ""
    return found


def meaning(kind: type, key: str, said: Mapping[str, str]) -> str:
    """What a key means; what has only a telling name is said here in words."""
    return said.get(key) or _PLAIN.get((kind, key)) or key.replace("_", " ").capitalize() + "."


def _section(name: str, kind: type) -> str:
    said = documented(kind)
    title = "Top level" if kind is Config else f"`{name}`"
    lines = [f"## {title}", "", _cell((kind.__doc__ or "").strip()), "", "| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{entry.name}` | {_type(entry)} | {_default(entry)} | {_cell(meaning(kind, entry.name, said))} |"
        for entry in keys(kind)
    ]
    return "\n".join(lines) + "\n"


def keys(kind: type) -> Iterator[Field[Any]]:
    """Fields that a user writes; those of a model's target stand in a section of their own."""
    assert is_dataclass(kind)
    return (entry for entry in fields(kind) if not (kind is AuditedModel and entry.name == "target"))


def _type(entry: Field[Any]) -> str:
    kind = entry.type
    name = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(one.value) for one in kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return "section"
    return _cell(_words(name))


def _words(name: str) -> str:
    """An annotation in words that a writer of YAML knows."""
    name = re.sub(r"\b(?:[a-z_]+\.)+([A-Za-z_]+)", r"\1", name)
    name = re.sub(r"Literal\[([^]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " or "), name)
    name = re.sub(r"Optional\[(.*)\]$", r"\1 | None", name)
    name = re.sub(r"Mapping\[\w+, [\w |]+(?:\[[\w |,.]+\])?\]", "mapping", name)
    name = re.sub(r"tuple\[tuple\[(\w+), \.\.\.\], \.\.\.\]", r"list of lists of \1", name)
    name = re.sub(r"(?:tuple|Sequence)\[([\w ]+)(?:, \.\.\.)?\]", r"list of \1", name)
    name = re.sub(r"tuple\[(\w+)(?:, \1)+\]", lambda found: f"{found[0].count(found[1])} × {found[1]}", name)
    words = {"str": "text", "bool": "true or false", "int": "whole number", "float": "number", "Path": "path", "None": "nothing"}
    words |= {
        "TlsOptions": "section",
        "LearnFrom": "section",
        "PicturesOptions": "section",
        "Threshold": "sections",
        "Role": "roles",
    }
    return re.sub(r"\w+", lambda found: words.get(found[0], found[0]), name).replace(" | ", ", or ")


def _default(entry: Field[Any]) -> str:
    if entry.default is not MISSING:
        value = entry.default
    elif entry.default_factory is not MISSING:
        value = entry.default_factory()
    else:
        return "required"
    if is_dataclass(value):
        return "see there"
    if value is None:
        return ""
    if isinstance(value, float) and value == float("inf"):
        return "no limit"
    return _cell(f"`{json.dumps(value, default=str)}`")


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def benchmarks_table() -> str:
    """The benchmarks that ran, each by figures of the table that it wrote."""
    lines = ["| audit | run time | what it found |", "|---|---|---|"]
    for name, row in _FOUND.items():
        page = BENCHMARKS / f"{name}.md"
        if page.exists():
            figures = {
                key: float(value) for key, value in re.findall(r"^\| (\w+) \| (-?[\d.]+) \|$", page.read_text(), re.MULTILINE)
            }
            audit, time, found = row(figures)
            audit += " (quick run)" if "\n- run: quick\n" in page.read_text() else ""
            lines.append(f"| [{audit}](docs/benchmarks/{name}.md) | {time} | {found} |")
    return "\n".join(lines)


def _planted(f: Mapping[str, float]) -> tuple[str, str, str]:
    found, false = round(f["recall_strong"] * f["strong_cells"]), round(f["false_relies"] * f["idle_cells"])
    return (
        f"14 planted classifiers, 7 concepts, {f['rows']:.0f} rows, {f['images']:.0f} pictures from the shipped generator",
        f"{f['audit_seconds']:.0f} s a classifier, pictures drawn before",
        (
            f"{found} of {f['strong_cells']:.0f} reliances with a true importance of 0.05 or more; {false} of {f['idle_cells']:.0f} idle "
            f"concepts accused; worst error of an importance {f['worst_error']:.3f}"
        ),
    )


def _diffex(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "14 planted classifiers, 16 drawn and some 40 exact changes of real scenes",
        f"{f['seconds_per_edit']:.1f} s and {f['rows_per_edit']:.0f} network rows an edit with its share of the inversion, once for all classifiers",
        (
            f"{f['recall_at_5']:.0%} of planted concepts among the first five nodes ({f['recall_at_5_importance']:.0%} of all with an "
            f"importance of 0.05 or more), {f['recall_at_5_paper']:.0%} by the published search, whose edits take {f['cost_ratio_paper_over_ours']:.1f} times the network rows; {f['false_nodes']:.0f} of {f['idle_nodes']:.0f} idle nodes accused (too few images for an alert); "
            f"{f['valid_edit_rate']:.0%} of drawn edits valid"
        ),
    )


def _counterfactuals(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        f"counterfactual images of 14 planted classifiers by the shipped diffusion over pixels, {f['images_gradient']:.0f} scenes",
        f"1/{f['dime_rows_over_ours']:.0f} of DiME's network rows (on {f['images_dime']:.0f} scenes) with a gradient; {f['queries_scores']:.0f} queries an image without",
        (
            f"{f['flip_rate_gradient']:.0%} flipped with a gradient, {f['flip_rate_scores']:.0%} of {f['images_scores']:.0f} from scores alone, at "
            f"{f['l1_over_dime_gradient']:.2f} and {f['l1_over_dime_scores']:.2f} of DiME's change; {f['shortcuts_found']:.0f} of {f['shortcuts']:.0f} shortcuts "
            f"change along with the decision, {f['idle_attributes_accused']:.0f} of {f['idle_attributes']:.0f} idle attributes do"
        ),
    )


def _discovery(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "words that make 14 planted classifiers answer with their class, found with no data (three at most count)",
        f"{f['queries_scores']:.0f} queries and {f['network_rows_scores']:.0f} network rows a class; {f['queries_gradient']:.0f} queries by gradient",
        (
            f"{f['found_scores']:.0%} of planted cues found by scores, {f['found_gradient']:.0%} by gradient; "
            f"{f['idle_accused_scores'] + f['idle_accused_gradient']:.0f} idle words accused in {f['words_tested_scores'] + f['words_tested_gradient']:.0f} tests"
        ),
    )


def _loop(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "a shortcut that nobody listed, from a word to a node of the tree to the alert of a real Prometheus",
        "a minute a model, pictures drawn before",
        (
            f"{f['named_by_an_alert']:.0f} of {f['should_be']:.0f} models that know it named by an alert; "
            f"{f['alerts_about_others']:.0f} alerts about it for the clean one"
        ),
    )


def _units(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "hidden units that carry a planted artefact by the renderer's truth, named by words",
        f"{f['units_scores']:.0f} units of 5 classifiers by answers, {f['units_gradient']:.0f} by gradient",
        f"{f['named_scores']:.0%} named right by answers, {f['named_gradient']:.0%} by gradient",
    )


def _interference(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "a customer who asks a Triton without pause, on the same two cores, with and without an audit beside",
        f"after an induced queue asking stops within {f['pause_after_seconds']:.1f} s",
        (
            f"the customer's p99 is {f['p99_ratio_default_budget']:.2f} of what it is without the audit under the default budget, "
            f"{f['p99_ratio_no_guard']:.2f} without a guard (noise of the run: {f['p99_noise']:.0%})"
        ),
    )


def _service(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "a store of 10,000 runs, one of them of a tree of 1,000 classes x 100 nodes",
        f"a scrape {f['metrics_ms']:.0f} ms, the slowest page {f['pages_first_ms']:.0f} ms, the first time it is visited",
        f"{f['series']:.0f} series, {f['series_of_the_tree']:.0f} of the tree; what the cap leaves out is counted",
    )


def _quality(f: Mapping[str, float]) -> tuple[str, str, str]:
    gates = sum(f[f"gates_{word}"] for word in ("pass", "warn", "fail"))
    return (
        f"the shipped generator, {f['rows']:.0f} scenes",
        f"{f['images_per_second']:.1f} pictures a second",
        (
            f"{f['gates_pass']:.0f} of {gates:.0f} gates passed; at least {f['worst_obedience']:.1%} of asked-for changes made, "
            f"at most {f['worst_leakage']:.1%} spilled into another concept"
        ),
    )


def _leaves(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        f"real leaf photographs, a classifier confounded with the capture site and a balanced one, {f['rows']:.0f} rows",
        f"{f['audit_seconds']:.0f} s a classifier, pictures drawn before",
        (
            f"importance of the site {f['site_importance_leaf_confounded']:.3f} for the confounded one, "
            f"{f['site_importance_leaf_balanced']:.3f} for the balanced one"
        ),
    )


def _over_time(f: Mapping[str, float]) -> tuple[str, str, str]:
    idle = sum(f[f"false_alarms_{name}_each_2_runs"] for name in ("quiet", "idle", "noisy", "drifting")) / 4
    return (
        f"years of daily audits through the policy, {f['audits']:.0f} audits with known truth of 200 rows and 7 concepts",
        "1 to 2 s an audit, a thousand model-years a minute",
        (
            f"{idle:.2f} false alarms a model-year of a model that relies on nothing; {f['false_alarms_at_the_margin_each_2_runs']:.2f} of one at the very "
            f"margin, {f['false_alarms_at_the_margin_each_1_run']:.1f} without the second run; a change of 0.05 is alarmed after {f['delay_median_0_05']:.0f} audits, of "
            f"0.1 after {f['delay_median_0_1']:.0f} (median, on other rows each time)"
        ),
    )


def _suite(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        f"{f['classifiers']:.0f} classifiers of known making in {f['worlds']:.0f} worlds of scenes, plain digits and garments, beside seven other approaches",
        f"{f['minutes']:.0f} minutes, networks, generators and pictures made before",
        (
            f"{f['strong_found']:.0f} of {f['strong']:.0f} strong reliances and {f['weak_found']:.0f} of {f['weak']:.0f} weak ones; "
            f"{f['tasks_broken_at_first']:.0f} of {f['tasks']:.0f} tasks refused at first, {f['tasks_broken']:.0f} after what discovery named was listed; "
            f"{f['false_findings']:.0f} of {f['idle']:.0f} idle concepts accused; "
            f"{f['depict_coverage95']:.0%} of the 95 % intervals hold the truth, {f['depict_coverage95_near']:.0%} to a tenth of the margin"
        ),
    )


_LOOKED_UP = "nothing is drawn: the pictures exist already"


def _cue_conflict(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "two published ImageNet classifiers on pictures whose shape and texture disagree",
        _LOOKED_UP,
        (
            f"shape bias {f['shape_bias_squeezenet']:.3f} and {f['shape_bias_mobilenet']:.3f}, as published for these pictures; another picture of the same "
            f"two changes {f['squeezenet_shape_another_picture_flip_rate']:.0%} and {f['mobilenet_shape_another_picture_flip_rate']:.0%} of decisions, another "
            f"texture {f['squeezenet_shape_texture_excess']:.0%} and {f['mobilenet_shape_texture_excess']:.0%} beyond that, another shape "
            f"{f['squeezenet_shape_shape_excess']:.0%} and {f['mobilenet_shape_shape_excess']:.0%}"
        ),
    )


def _people(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "drawings of people that differ in skin tone alone, a classifier that was taught a bias and a balanced one",
        _LOOKED_UP,
        (
            f"skin tone changes {f['planted_skin_tone_flip_rate']:.0%} and {f['balanced_skin_tone_flip_rate']:.0%} of decisions, the exact figures; importance on rows as "
            f"taught {f['delivered_planted_skin_tone_importance']:.3f} and {f['delivered_balanced_skin_tone_importance']:.3f}"
        ),
    )


def _digits(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "a published MNIST classifier, ten digits",
        "exact operators; nothing is drawn",
        (
            f"inverting changes {f['inverted_decisions_changed']:.0%} of decisions, a grey ground {f['grey_ground_decisions_changed']:.0%}; stroke thickness "
            f"{f['stroke_importance']:.3f} of importance"
        ),
    )


def _xray(f: Mapping[str, float]) -> tuple[str, str, str]:
    return (
        "five small networks on chest radiographs, some of which can know of the border or of a mark",
        _LOOKED_UP,
        (
            f"importance of the border {f['border_importance_xray_border']:.3f} for one that sees nothing else, {f['border_importance_xray_whole']:.3f} for one that sees all, "
            f"{f['border_importance_xray_blind']:.3f} for one that cannot use it; a mark moves the one that was taught it by {f['mark_xray_token_pneumonia']:+.1f} "
            f"log-odds, its unbiased twin by {f['mark_xray_fair_pneumonia']:+.2f}"
        ),
    )


_FOUND = {
    "planted_suite": _suite,
    "depict_planted": _planted,
    "diffex_planted": _diffex,
    "counterfactuals_planted": _counterfactuals,
    "discovery_planted": _discovery,
    "discovery_units": _units,
    "discovery_loop": _loop,
    "alarms_over_time": _over_time,
    "leaves": _leaves,
    "case_cue_conflict": _cue_conflict,
    "case_people": _people,
    "case_digits": _digits,
    "case_xray": _xray,
    "generator_quality": _quality,
    "non_interference": _interference,
    "service_load": _service,
}


def current(readme: str) -> str:
    """The README with its tables as they are now."""
    for name, table in {"benchmarks": benchmarks_table(), "metrics": metrics_table()}.items():
        begin, end = f"<!-- {name}: python docs/generate.py -->", f"<!-- end of {name} -->"
        before, _, rest = readme.partition(begin)
        _, _, after = rest.partition(end)
        readme = f"{before}{begin}\n{table}\n{end}{after}"
    return readme


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration_page(), encoding="utf-8")
    README.write_text(current(README.read_text(encoding="utf-8")), encoding="utf-8")
