"""The one table of metric names.  Collector, alert rules, dashboards and the documentation page are all checked against it.

Labels ``model`` and ``version`` are spelt as Triton's own, so that PromQL joins need no relabelling; ``task`` is the label column a model
was judged by (``job``, ``instance`` and the like belong to the scrape).  Interval bounds are metrics of their own, never label values.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "info"]
AUDIT = ("model", "version", "task")
CONCEPT = (*AUDIT, "concept", "metric")
NODE = (*AUDIT, "class", "node", "kind")
TREE = (*AUDIT, "class")
DRIFT = (*NODE, "previous")
SHORTCUT = (*AUDIT, "concept")
FLIPS = (*AUDIT, "method", "rung")
ATTRIBUTE = (*FLIPS, "class", "attribute", "role")
FOUND = (*AUDIT, "class")
CUE = (*FOUND, "word", "part")
ENGINE = (*AUDIT, "engine", "backend", "precision")
PREFIX = "audit_plugin_"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric as it is exposed; ``name`` is the full sample name, with ``_total`` or ``_info`` where the kind asks for it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""


def _concept(name: str, help_text: str, unit: str = "ratio") -> MetricSpec:
    cached = f"{help_text}; cached from the last working audit."
    return MetricSpec(name=PREFIX + name, kind="gauge", help=cached, labels=CONCEPT, unit=unit)


def _shortcut(name: str, help_text: str, unit: str = "ratio", labels: tuple[str, ...] = SHORTCUT) -> MetricSpec:
    cached = f"{help_text}; cached from the last working audit."
    return MetricSpec(name=PREFIX + name, kind="gauge", help=cached, labels=labels, unit=unit)


def _flips(name: str, help_text: str, unit: str = "ratio", labels: tuple[str, ...] = FLIPS) -> MetricSpec:
    cached = f"{help_text}; cached from the last working audit."
    return MetricSpec(name=PREFIX + name, kind="gauge", help=cached, labels=labels, unit=unit)


def _found(name: str, help_text: str, unit: str = "ratio", labels: tuple[str, ...] = FOUND) -> MetricSpec:
    cached = f"{help_text}; cached from the last working audit."
    return MetricSpec(name=PREFIX + name, kind="gauge", help=cached, labels=labels, unit=unit)


def _node(name: str, help_text: str, unit: str = "", labels: tuple[str, ...] = NODE) -> MetricSpec:
    cached = f"{help_text}; cached from the last working audit."
    return MetricSpec(name=PREFIX + name, kind="gauge", help=cached, labels=labels, unit=unit)


def _audit(name: str, help_text: str, unit: str = "", labels: tuple[str, ...] = AUDIT) -> MetricSpec:
    return MetricSpec(name=PREFIX + name, kind="gauge", help=f"{help_text}; cached from the last audit.", labels=labels, unit=unit)


def _process(name: str, help_text: str, unit: str = "", kind: Kind = "gauge", labels: tuple[str, ...] = ()) -> MetricSpec:
    return MetricSpec(name=PREFIX + name, kind=kind, help=f"{help_text}.", labels=labels, unit=unit)


SPECS: tuple[MetricSpec, ...] = (
    # What the model relies on
    _concept("concept_importance_ratio", "Drop of the performance metric when the concept is permuted"),
    _concept("concept_importance_low_ratio", "Lower limit of the 95 % interval of the importance"),
    _concept("concept_importance_high_ratio", "Upper limit of the 95 % interval of the importance"),
    _concept("concept_margin_ratio", "Practical margin that the verdict used, placebo included"),
    _concept("concept_mde_ratio", "Smallest importance that this audit would have found with 80 % power"),
    _concept("concept_rows", "Rows on which the concept was judged", unit=""),
    _concept("concept_flip_rate_excess_ratio", "Share of concept flips that change the decision, in excess of the placebo"),
    _concept("concept_flip_rate_excess_low_ratio", "Lower limit of the 95 % interval of the excess flip rate"),
    _concept("concept_flip_rate_excess_high_ratio", "Upper limit of the 95 % interval of the excess flip rate"),
    MetricSpec(
        name=PREFIX + "concept_verdict",
        kind="gauge",
        help="1 for the current verdict on the concept, the other verdicts have no series; cached from the last working audit.",
        labels=(*CONCEPT, "role", "verdict"),
    ),
    _concept("concept_breach", "1 when the estimate exceeds the policy's bound with its whole interval, else 0", unit=""),
    _concept(
        "concept_breach_runs", "Consecutive audits on different rows that breached the policy, 0 when the last did not", unit=""
    ),
    _concept("concept_breach_strong", "1 when the lower bound exceeds twice the tolerated margin, else 0", unit=""),
    # Group fairness, interventional figures and whatever the policy found
    _concept("fairness_gap_ratio", "Group fairness figure named by `metric`, signed"),
    _concept("fairness_gap_low_ratio", "Lower limit of the 95 % interval of the fairness figure"),
    _concept("fairness_gap_high_ratio", "Upper limit of the 95 % interval of the fairness figure"),
    _concept("fairness_rows", "Rows behind the fairness figure", unit=""),
    _concept("fairness_breach", "1 when the fairness figure exceeds the policy's bound with its whole interval, else 0", unit=""),
    _concept(
        "fairness_breach_runs", "Consecutive audits on different rows that breached the policy, 0 when the last did not", unit=""
    ),
    _concept("fairness_breach_strong", "1 when the interval lies beyond twice the policy's bound, else 0", unit=""),
    # Suspected shortcuts
    _shortcut("shortcut_change_ratio", "Mean absolute change of the score when the concept is flipped in real images"),
    _shortcut("shortcut_floor_ratio", "The same by the editor alone, with nobody to guide it"),
    _shortcut("shortcut_over_floor_ratio", "Change by flips of the concept beyond that by the editor alone"),
    _shortcut("shortcut_over_floor_low_ratio", "Lower limit of the 95 % interval of the change beyond the editor's"),
    _shortcut("shortcut_over_control_ratio", "Change by flips of the concept beyond that by flips of an irrelevant concept"),
    _shortcut("shortcut_over_control_low_ratio", "Lower limit of the 95 % interval of the change beyond the irrelevant concept's"),
    _shortcut("shortcut_flip_ratio", "Share of flips that the independent detector sees"),
    _shortcut("shortcut_flips", "Verified flips behind the figures", unit=""),
    _shortcut(
        "shortcut_verdict",
        "1 for the verdict (shortcut, none, inconclusive, insufficient), the other verdicts have no series",
        unit="",
        labels=(*SHORTCUT, "verdict"),
    ),
    # Counterfactuals
    _flips("counterfactual_flip_ratio", "Share of images whose decision the method flips"),
    _flips("counterfactual_flip_low_ratio", "Lower limit of the 95 % interval of the flip ratio"),
    _flips("counterfactual_flip_high_ratio", "Upper limit of the 95 % interval of the flip ratio"),
    _flips("counterfactual_free_flip_ratio", "Share of images that plausible variation flips, with nobody to guide it"),
    _flips(
        "counterfactual_median_distance_ratio", "Median mean absolute difference (l1) of flips from their images, of full scale"
    ),
    _flips(
        "counterfactual_correlation_difference_ratio",
        "Sum over attributes of how far flips co-change them otherwise than the data; grows with few flips, compare only at equal counts",
    ),
    _flips("counterfactual_correlation_difference_low_ratio", "Lower limit of the 95 % interval of the correlation difference"),
    _flips("counterfactual_correlation_difference_high_ratio", "Upper limit of the 95 % interval of the correlation difference"),
    _flips("counterfactual_jpeg_ratio", "Share of flips that survive a JPEG round trip"),
    _flips("counterfactual_witness_ratio", "Share of flips that an independent model sees as moved towards the target"),
    _flips("counterfactual_adversarial_ratio", "Share of flips that neither a JPEG round trip nor an independent model keeps"),
    _flips(
        "counterfactual_distance",
        "Distance of flips from real images in a network's features (FID, sFID, KID); FID grows with few images, compare at equal counts",
        unit="",
        labels=(*FLIPS, "figure"),
    ),
    _flips(
        "counterfactual_likeness_ratio",
        "How alike counterfactuals and their images are in a network's features: FVA is a share, FS and S3 mean cosines",
        labels=(*FLIPS, "figure"),
    ),
    _flips("counterfactual_set_images", "Counterfactuals behind the figure", unit="", labels=(*FLIPS, "figure")),
    _flips(
        "counterfactual_diversity",
        "Mean distance between counterfactuals of one image in searches with other noise, by the distance named",
        unit="",
        labels=(*FLIPS, "distance"),
    ),
    _flips("counterfactual_images", "Images that counterfactuals were asked for", unit=""),
    _flips("counterfactual_flips", "Flips behind the figures", unit=""),
    _flips("counterfactual_network_rows", "Rows that the denoising network evaluated, mean per image", unit=""),
    _flips("counterfactual_queries", "Pictures that the audited server was asked about, mean per image", unit=""),
    _flips(
        "counterfactual_attribute_gap_ratio",
        "How much more than in the data the attribute changes along with the decision for the class, as a difference of correlations",
        labels=ATTRIBUTE,
    ),
    _flips("counterfactual_attribute_gap_low_ratio", "Lower limit of the 95 % interval of the gap", labels=ATTRIBUTE),
    _flips(
        "counterfactual_breach",
        "1 when the gap exceeds the policy's bound with its whole interval, else 0",
        unit="",
        labels=ATTRIBUTE,
    ),
    _flips(
        "counterfactual_breach_runs",
        "Consecutive audits on different rows that breached the policy, 0 when the last did not",
        unit="",
        labels=ATTRIBUTE,
    ),
    _flips(
        "counterfactual_breach_strong", "1 when the bound is exceeded twice over in one audit, else 0", unit="", labels=ATTRIBUTE
    ),
    # What classes respond to, found with no data
    _found("class_object_absent_ratio", "Share of drawn pictures taken for the class that do not show its object"),
    _found("class_object_absent_low_ratio", "Lower limit of the 95 % interval of the share without the object"),
    _found("class_object_absent_breach", "1 when that share exceeds the policy's bound with its whole interval, else 0", unit=""),
    _found(
        "activation_score_ratio",
        "Share of drawn pictures that are taken for the class: by its best prompt (`cue`), and without any of the words (`base`)",
        labels=(*FOUND, "prompt"),
    ),
    _found("activation_score_low_ratio", "Lower limit of the 95 % interval of the activation score", labels=(*FOUND, "prompt")),
    _found("cue_uplift_ratio", "Rise of the activation score by saying the word, under the same seeds", labels=CUE),
    _found("cue_uplift_low_ratio", "Lower limit of its 95 % interval, for all words of the class together", labels=CUE),
    _found(
        "discovered_cue_breach", "1 when the rise exceeds the policy's bound and the word is not core, else 0", unit="", labels=CUE
    ),
    _found("discovery_stability_ratio", "Jaccard index of the words that act in either half of the seeds"),
    _found(
        "discovered_words",
        "Words that proved to act, over all classes, by whether they belong to the class (core, spurious, mixed, unknown)",
        unit="",
        labels=(*AUDIT, "part"),
    ),
    _found("discovery_domain_fit", "1 when the generator draws what the model was made for, else 0", unit="", labels=AUDIT),
    _found("discovery_queries", "Drawn pictures that the audited server was asked about", unit="", labels=AUDIT),
    _found("discovery_network_rows", "Rows that the denoising network evaluated for them", unit="", labels=AUDIT),
    # Concept tree on real images
    _node("semantic_effect_logodds", "Change of the class's log-odds by the presence of the node in real images"),
    _node("semantic_effect_low_logodds", "Lower limit of the 95 % interval of the effect"),
    _node("semantic_effect_high_logodds", "Upper limit of the 95 % interval of the effect"),
    _node("semantic_effect_probability_ratio", "The effect on the class's probability", "ratio"),
    _node("semantic_flip_ratio", "Share of images whose decision the node changes, in excess of the placebo", "ratio"),
    _node(
        "semantic_state",
        "1 for what may be said of the effect (effect, no_effect, inconclusive), the other states have no series",
        labels=(*NODE, "state"),
    ),
    _node("spuriousness_ratio", "Spuriousness score: near 1 for a sure, large effect of a node that is not core", "ratio"),
    _node(
        "spurious_ratio", "Effect of the node over its sum with the effect of the object; above 0.5 the cue outweighs it", "ratio"
    ),
    _node(
        "spurious_hit_ratio",
        "Share of images with the cue and without the object that are taken for the class; 75 at least",
        "ratio",
    ),
    _node("spurious_hit_low_ratio", "Lower limit of the 95 % interval of the spurious hit ratio", "ratio"),
    _node(
        "spurious_auc_ratio",
        "Chance that a real image of the class has a higher score than one with the cue alone; 1 is healthy",
        "ratio",
    ),
    _node("semantic_valid_edit_ratio", "Share of the node's edits that passed the validity checks", "ratio"),
    _node("semantic_breach", "1 when the effect exceeds the policy's bound with its whole interval, else 0"),
    _node("semantic_breach_runs", "Consecutive audits on different rows that breached the policy, 0 when the last did not"),
    _node("semantic_breach_strong", "1 when the bound is exceeded twice over in one audit, else 0"),
    _node("semantic_tree_valid_edit_ratio", "Share of all edits that passed the validity checks", "ratio", labels=TREE),
    _node("semantic_estimation_images", "Images behind the effects", labels=TREE),
    _node("semantic_null_shift_logodds", "Mean change of log-odds by editing nothing, against the images themselves", labels=TREE),
    _node("semantic_placebo_effect_logodds", "Mean change of log-odds by meaningless edits", labels=TREE),
    _node(
        "semantic_stability_tau_ratio", "Agreement of the effects' order between random halves of the images", "ratio", labels=TREE
    ),
    _node(
        "semantic_operator_agreement_ratio",
        "Spearman correlation of the effects of the same nodes by two edit operators",
        "ratio",
        labels=TREE,
    ),
    _node("semantic_sufficiency_ratio", "Share of images that one of the first ten nodes moves", "ratio", labels=TREE),
    _node("semantic_tree_coverage_ratio", "Estimated nodes over all nodes of the tree", "ratio", labels=AUDIT),
    _node("semantic_untrustworthy", "1 when the effects cannot be relied on: few images, invalid or unstable edits", labels=AUDIT),
    _node(
        "semantic_verifier_precision_ratio",
        "Share of accepted edits, among those a person looked at, in which the person agreed with the judges",
        "ratio",
        labels=AUDIT,
    ),
    _node(
        "semantic_verifier_precision_low_ratio", "Lower limit of the 95 % interval of the verifier precision", "ratio", labels=AUDIT
    ),
    _node(
        "semantic_verifier_precision_high_ratio",
        "Upper limit of the 95 % interval of the verifier precision",
        "ratio",
        labels=AUDIT,
    ),
    _node("semantic_edits", "Edits that the last audit made or looked up", labels=AUDIT),
    _node(
        "semantic_edit_results",
        "Edits of the last audit by result (valid, invalid), without placebos and what nobody could judge",
        labels=(*AUDIT, "result"),
    ),
    _node("semantic_bank_hits", "Edits of the last audit that were in the bank already, placebos with them", labels=AUDIT),
    MetricSpec(
        name=PREFIX + "semantic_info",
        kind="info",
        help="What the last working audit of a concept tree was made with: digest of the tree, of images and editor, edit operators.",
        labels=(*AUDIT, "tree", "bank", "operators"),
    ),
    _node(
        "semantic_version_drift_logodds",
        "Effect in this version minus that in the previous one, on the same edits of the same images",
        labels=DRIFT,
    ),
    _node("semantic_version_drift_low_logodds", "Lower limit of the 95 % interval of the drift", labels=DRIFT),
    _node("semantic_version_drift_high_logodds", "Upper limit of the 95 % interval of the drift", labels=DRIFT),
    _node(
        "semantic_version_drift_breach",
        "1 when the drift exceeds 0.25 log-odds and its interval excludes 0, on 32 images or more, else 0",
        labels=DRIFT,
    ),
    _node("semantic_version_drift_mean_logodds", "Mean absolute drift of the class's nodes", labels=(*TREE, "previous")),
    # The audit itself
    _audit("audit_state", "1 for the state in which the last run ended, the other states have no series", labels=(*AUDIT, "state")),
    _audit("audit_broken", "1 when the last audit did not work and says nothing about bias, else 0"),
    _audit("insufficient_data", "1 when the last audit had too little data to say anything, else 0"),
    _audit(
        "gate_status",
        "Worst status of the gate: 0 pass, 1 warn, 2 fail; a gate that was not run has no series",
        labels=(*AUDIT, "gate"),
    ),
    _audit("performance_real_ratio", "The performance metric on the real images", "ratio", labels=(*AUDIT, "metric")),
    _audit("performance_generated_ratio", "The performance metric on the generated baseline", "ratio", labels=(*AUDIT, "metric")),
    _audit("rows", "Rows in the last audit"),
    _audit("images", "Generated images in the bank of the last audit"),
    _audit("unet_evaluations", "Denoiser network evaluations spent by the last audit"),
    _audit(
        "engine_items", "Rows that a network of the generator computed; no series when the last audit drew nothing", labels=ENGINE
    ),
    _audit("engine_padded_rows", "Rows computed and thrown away, to fill batches", labels=ENGINE),
    _audit("engine_seconds", "Device time of a network of the generator, all threads together", "seconds", labels=ENGINE),
    _audit("engine_parity_error_ratio", "Relative error of a network against torch in single precision", "ratio", labels=ENGINE),
    _audit("engine_fallbacks", "Backends that were refused for a network, each with a reason in the report", labels=ENGINE),
    _audit("engine_build_seconds", "Time spent building, certifying and comparing engines of a network", "seconds", labels=ENGINE),
    _audit("engine_tier", "1 for how the pictures were drawn: exact, or approximate", labels=(*AUDIT, "tier")),
    _audit("engine_agreement_ratio", "Share of pictures whose first class is that of the reference's picture", "ratio"),
    _audit("engine_score_change_ratio", "Mean absolute change of a class score from the reference's picture", "ratio"),
    _audit("findings", "Policy breaches in the last audit", labels=(*AUDIT, "severity")),
    _audit("last_success_timestamp_seconds", "When the last working audit ended", "seconds"),
    _audit("last_completion_timestamp_seconds", "When the last audit ended, working or not", "seconds"),
    _audit("last_duration_seconds", "How long the last audit took", "seconds"),
    _audit("audit_interval_seconds", "Configured time between two audits", "seconds"),
    _audit(
        "control_missed",
        "1 when a reliance that is planted, in a control of the audit or in the model itself, was not found, else 0",
    ),
    _audit(
        "control_false_alarm",
        "1 when a reliance was found where none is planted, in a control of the audit or in the model itself, else 0",
    ),
    _audit(
        "selftest_detection_ratio",
        "Share of self-tests that find an effect of this size, in log-odds, put into the model's answers",
        "ratio",
        labels=(*AUDIT, "concept", "size"),
    ),
    _audit("selftest_size95_logodds", "Effect that is found 95 % of the time; no series where none is", labels=(*AUDIT, "concept")),
    _audit(
        "selftest_false_findings",
        "Self-tests without effect that accused a concept that must not matter, by noise alone: not what edits leak into other concepts",
    ),
    _audit("selftest_runs", "Self-tests without effect that worked"),
    _audit("selftest_broken_runs", "Self-tests, of all sizes, that failed their own gates"),
    _audit("series_dropped", "Series of concepts, nodes, attributes, words and fairness figures left out by the series cap"),
    # This process
    _process("build_info", "Version of the plug-in", kind="info", labels=("plugin_version",)),
    _process("target_up", "1 when the audited server answered the last time this process asked, else 0"),
    _process("config_last_reload_successful", "1 when the last attempt to load the configuration worked, else 0"),
    _process("config_last_reload_success_timestamp_seconds", "When the configuration was last loaded", "seconds"),
    _process("store_up", "1 when the result store could be read for this scrape, else 0"),
    _process("attempts_total", "Runs of audits begun", kind="counter"),
    _process("failures_total", "Runs of audits that ended with an error", kind="counter"),
    _process("missed_runs_total", "Runs that were due while the one before was not over or no process was there", kind="counter"),
    _process("last_round_failed", "1 when the last run of audits ended with an error, else 0"),
    _process("next_run_timestamp_seconds", "When the next round of audits is due", "seconds"),
    _process("interval_seconds", "Longest time between two audits of all models, as configured", "seconds"),
    _process("engine_cache_bytes", "Size of the cache of built engines", "bytes"),
    _process(
        "engine_share_ratio", "Configured share of the device's time that drawing may take; 1 where it is not shared", "ratio"
    ),
    _process("load_requests_total", "Inference requests that the load guard let through", kind="counter"),
    _process("load_images_total", "Images in them", kind="counter"),
    _process("load_pauses_total", "Times that audits stepped aside because requests waited on the server", kind="counter"),
    _process(
        "load_paused_seconds_total",
        "Time that requests of audits waited for the server's queues to empty",
        "seconds",
        kind="counter",
    ),
    _process("load_throttled_seconds_total", "Time that requests of audits waited for their budget", "seconds", kind="counter"),
    _process(
        "load_yielded_seconds_total",
        "Time that requests of audits waited because others asked the same server, too",
        "seconds",
        kind="counter",
    ),
    _process("load_closed_seconds_total", "Time that requests of audits waited for a window of time", "seconds", kind="counter"),
    _process("load_blind_total", "Looks at the server's queues that failed", kind="counter"),
    _process("leader", "1 in the process that runs the audits, 0 in replicas that wait"),
    _process("runs_waiting", "Runs that wait in the queue"),
    _process("refused_total", "Requests to pages and REST API that were refused", kind="counter", labels=("reason",)),
    _process("load_paused", "1 while audits step aside because requests wait on the server, else 0"),
    _process("capture_events_total", "Inference events of production that were offered for capture", kind="counter"),
    _process("capture_sampled_total", "Of them, those that the sampling share chose", kind="counter"),
    _process("capture_kept_total", "Pictures written to the captured samples, since replaced ones included", kind="counter"),
    _process(
        "capture_dropped_total",
        "Events that were refused, and pictures that were lost, by reason",
        kind="counter",
        labels=("reason",),
    ),
    _process("capture_images", "Pictures in the captured sample of the model now", labels=("model",)),
    _process(
        "capture_dropping",
        "1 when pictures were lost in the last five minutes because queue, disk or redaction failed, else 0",
    ),
    _process(
        "triton_requests_total",
        "Images that recorded audits sent to the audited server, countable against nv_inference_count",
        kind="counter",
        labels=("model", "version"),
    ),
)

METRICS = {spec.name.removeprefix(PREFIX): spec for spec in SPECS}
"""The same by short name."""
