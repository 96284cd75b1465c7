"""The alerts: few, on symptoms.  Prometheus rules, the local evaluation and the runbooks' file names all come from here.

``{model}`` and the like in texts are labels of the firing series.
"""

from dataclasses import dataclass
from typing import Literal

from audit_plugin.alerts.conditions import Absent, Compare, Condition, Overdue


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert; it fires for every series that meets any of its conditions."""

    name: str
    any_of: tuple[Condition, ...]
    summary: str
    description: str
    severity: Literal["warning", "critical"] = "warning"
    wait: str = "0m"
    """How long it has to hold.  Zero where the value only changes with a run: debouncing is done in runs."""

    @property
    def runbook(self) -> str:
        """File name of its runbook."""
        return f"{self.name.lower()}.md"


ALERTS: tuple[Alert, ...] = (
    Alert(
        name="AuditPluginReliesOnSpuriousConcept",
        any_of=(Compare("concept_breach_runs", ">=", 2), Compare("concept_breach_strong", "==", 1)),
        summary="Model {model} relies on {concept}, which must not matter",
        description=(
            "Version {version}, task {task}: {metric} depends on {concept} by more than the policy allows, with its whole 95 % interval, "
            "in two consecutive audits on different rows or by more than twice the margin in one."
        ),
    ),
    Alert(
        name="AuditPluginFairnessGap",
        any_of=(Compare("fairness_breach_runs", ">=", 2), Compare("fairness_breach_strong", "==", 1)),
        summary="Model {model} treats groups of {concept} differently",
        description=(
            "Version {version}, task {task}: {metric} lies beyond the policy's bound with its whole 95 % interval, in two consecutive audits "
            "on different rows or beyond twice the bound in one."
        ),
    ),
    Alert(
        name="AuditPluginProtectedAttributeEffect",
        any_of=(
            Compare("semantic_breach_runs", ">=", 2, ("kind", "=", "protected")),
            Compare("semantic_breach_strong", "==", 1, ("kind", "=", "protected")),
        ),
        summary="Model {model} answers otherwise where {node} is changed, a protected attribute",
        description=(
            "Version {version}, task {task}, class {class}: adding or removing {node} in real images moves the log-odds by more than the "
            "policy allows, with its whole 95 % interval, in two consecutive audits on different rows or by more than twice the bound in one."
        ),
        severity="critical",
    ),
    Alert(
        name="AuditPluginSpuriousFeature",
        any_of=(
            Compare("semantic_breach_runs", ">=", 2, ("kind", "!=", "protected")),
            Compare("semantic_breach_strong", "==", 1, ("kind", "!=", "protected")),
        ),
        summary="Model {model} responds to {node}, a feature of kind {kind} that must not matter",
        description=(
            "Version {version}, task {task}, class {class}: the spuriousness score of {node} on real images exceeds the policy's bound in two "
            "consecutive audits on different rows, or by more than twice in one."
        ),
    ),
    Alert(
        name="AuditPluginSpuriousHit",
        any_of=(Compare("spurious_hit_low_ratio", ">", 0.2),),
        summary="Model {model} takes images with {node} for {class} where the object is not there",
        description=(
            "Version {version}, task {task}: of images that show {node}, of kind {kind}, without the object, surely more than one in five "
            "are taken for {class} (lower limit of the 95 % interval)."
        ),
    ),
    Alert(
        name="AuditPluginVersionDrift",
        any_of=(Compare("semantic_version_drift_breach", "==", 1),),
        summary="Model {model} answers to {node} otherwise than in version {previous}",
        description=(
            "Version {version}, task {task}, class {class}: on the same edits of the same images the effect of {node}, of kind {kind}, differs "
            "from that in version {previous} by more than 0.25 log-odds, and the 95 % interval of the difference excludes 0."
        ),
    ),
    Alert(
        name="AuditPluginCounterfactualAttributeGap",
        any_of=(Compare("counterfactual_breach_runs", ">=", 2), Compare("counterfactual_breach_strong", "==", 1)),
        summary="Decisions of model {model} for {class} flip together with {attribute}, which must not matter",
        description=(
            "Version {version}, task {task}: counterfactuals by {method} (gradient: {rung}) change {attribute}, of role {role}, along with the "
            "decision more than the data do, by more than the policy allows with the whole 95 % interval, in two consecutive audits on different "
            "rows or by more than twice the bound in one."
        ),
    ),
    Alert(
        name="AuditPluginDiscoveredCue",
        any_of=(Compare("discovered_cue_breach", "==", 1),),
        summary="Model {model} says {class} where {word} is drawn",
        description=(
            "Version {version}, task {task}: with {word} in the prompt surely more of the pictures drawn under the same seeds are taken for {class} "
            "than the policy allows, and nothing says that it belongs to the class (part: {part}). Found with no data; edits of real images are "
            "the next step."
        ),
    ),
    Alert(
        name="AuditPluginClassObjectAbsent",
        any_of=(Compare("class_object_absent_breach", "==", 1),),
        summary="Model {model} says {class} of pictures without its object",
        description=(
            "Version {version}, task {task}: of the drawn pictures that are taken for {class}, surely a larger share than the policy allows does not "
            "show its object. Found with no data."
        ),
    ),
    Alert(
        name="AuditPluginEffectsUntrustworthy",
        any_of=(Compare("semantic_untrustworthy", "==", 1),),
        summary="The concept tree of model {model} cannot be relied on",
        description=(
            "Version {version}, task {task}: too few images, edits that are not valid, editing that moves scores by itself, or an order of "
            "effects that changes between halves of the images. No finding about its nodes is made meanwhile."
        ),
    ),
    Alert(
        name="AuditPluginAuditBroken",
        any_of=(Compare("audit_broken", "==", 1),),
        summary="The audit of model {model} does not work",
        description=(
            "Version {version}, task {task}: the last audit failed a validity gate, had too little data or could not run. It says nothing "
            "about bias, in either direction; the values shown are those of the last working audit."
        ),
    ),
    Alert(
        name="AuditPluginRunFailed",
        any_of=(Compare("last_round_failed", "==", 1), Compare("store_up", "==", 0)),
        summary="The audit service cannot complete a round of audits",
        description="The last round of audits ended in an error, or the result store cannot be read. Models are not being audited.",
    ),
    Alert(
        name="AuditPluginAuditStale",
        any_of=(
            Overdue("last_completion_timestamp_seconds", "audit_interval_seconds", "last_duration_seconds"),
            Overdue("next_run_timestamp_seconds", "interval_seconds"),
        ),
        summary="An audit is overdue",
        description=(
            "No audit has ended for two full periods and the time a run takes (model {model}, task {task}; empty when the whole service "
            "is late). The values shown are old."
        ),
    ),
    Alert(
        name="AuditPluginTargetDown",
        any_of=(Compare("target_up", "==", 0),),
        wait="15m",
        summary="The audited server does not answer the audit service",
        description="The inference server has not answered for half an hour. Whether it still answers its users is for its own alerts.",
    ),
    Alert(
        name="AuditPluginConfigReloadFailed",
        any_of=(Compare("config_last_reload_successful", "==", 0),),
        summary="The audit service runs with an old configuration",
        description="The last attempt to load the configuration failed; the one before is still in force.",
    ),
    Alert(
        name="AuditPluginSeriesDropped",
        any_of=(Compare("series_dropped", ">", 0),),
        summary="Not all concepts of model {model} are exported",
        description="Version {version}, task {task}: the series cap left out the least important concepts. Reports and store have all.",
    ),
    Alert(
        name="AuditPluginCaptureDropping",
        any_of=(Compare("capture_dropping", "==", 1),),
        wait="30m",
        summary="Captured pictures are being lost",
        description=(
            "Over half an hour pictures of production traffic were lost again and again: the writer is behind, the disk cannot be written, or a "
            "redaction hook fails. Serving is not affected; the sample that audits read is no longer an even one."
        ),
    ),
    Alert(
        name="AuditPluginControlFailed",
        any_of=(Compare("control_missed", "==", 1), Compare("control_false_alarm", "==", 1)),
        summary="A control of the audit of model {model} was judged wrongly",
        description=(
            "Version {version}, task {task}: the audit missed a reliance that is planted, or found one that is not. Until this is "
            "understood, silence about other models means nothing."
        ),
    ),
    Alert(
        name="AuditPluginAbsent",
        any_of=(Absent("build_info"),),
        wait="5m",
        summary="No audit service is being scraped",
        description="Prometheus has seen no audit_plugin for over a quarter of an hour. Nothing is being audited, or nobody would know.",
    ),
)
