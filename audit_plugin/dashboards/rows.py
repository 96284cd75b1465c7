"""The rows of one model's board, a function per method: what it found, with intervals and samples."""

from audit_plugin.dashboards.estimates import COUNT, LOGODDS, RATIO, SHARE, breach, interval, limits, one
from audit_plugin.dashboards.panels import BAD, GOOD, WATCH, Column, Line, Look, Panel, alarming, band, graph, stat, table


def concepts() -> tuple[Panel, ...]:
    """What the performance rests on."""
    labels = ("concept", "metric")
    here = {"concept": "~$concept", "metric": "$metric"}
    columns = (
        Column(query=one("concept_verdict").by(*labels, "role", "verdict")),
        *interval("concept_importance", "ratio", RATIO, *labels),
        Column(query=one("concept_margin_ratio").by(*labels), title="margin", look=RATIO),
        Column(query=one("concept_mde_ratio").by(*labels), title="smallest that would be found", look=RATIO),
        Column(query=one("concept_rows").by(*labels), title="samples", look=COUNT),
        Column(query=one("concept_flip_rate_excess_ratio").by(*labels), title="decisions changed", look=RATIO),
        *breach("concept_breach", *labels),
    )
    margin = Line(query=one("concept_margin_ratio", here).by(), legend="margin")
    return (
        table("All concepts", columns, sort="importance", width=24, alerts=("AuditPluginReliesOnSpuriousConcept",)),
        band(
            "$concept: importance",
            *limits("concept_importance", "ratio", here),
            RATIO,
            others=(margin,),
            counts=one("concept_rows", here).by(),
            repeat="concept",
            width=8,
            alerts=("AuditPluginReliesOnSpuriousConcept",),
        ),
    )


def groups() -> tuple[Panel, ...]:
    """How groups are treated."""
    labels, here = ("concept", "metric"), {"concept": "~$group", "metric": "$figure"}
    columns = (
        *interval("fairness_gap", "ratio", RATIO, *labels),
        Column(query=one("fairness_rows").by(*labels), title="samples", look=COUNT),
        Column(
            query=one("fairness_breach").by(*labels),
            title="beyond the bound",
            look=Look(words={0: ("no", GOOD), 1: ("yes", WATCH)}),
        ),
        *breach("fairness_breach", *labels),
    )
    drawn = band(
        "$group: $figure",
        *limits("fairness_gap", "ratio", here),
        RATIO,
        counts=one("fairness_rows", here).by(),
        repeat="group",
        width=8,
        alerts=("AuditPluginFairnessGap",),
    )
    return table("All figures", columns, sort="gap", width=24, alerts=("AuditPluginFairnessGap",)), drawn


def tree() -> tuple[Panel, ...]:
    """Effects of nodes on real images, and their drift from the previous version."""
    labels = ("class", "node", "kind")
    here = {"class": "$class", "node": "~$node"}
    both = ("AuditPluginSpuriousFeature", "AuditPluginProtectedAttributeEffect")
    columns = (
        Column(query=one("semantic_state").by(*labels, "state")),
        *interval("semantic_effect", "logodds", LOGODDS, *labels),
        Column(query=one("spuriousness_ratio").by(*labels), title="spuriousness", look=SHARE),
        Column(
            query=one("spurious_hit_low_ratio").by(*labels),
            title="taken for the class, low",
            look=alarming("spurious_hit_low_ratio"),
        ),
        Column(query=one("semantic_valid_edit_ratio").by(*labels), title="valid edits", look=SHARE),
        *breach("semantic_breach", *labels),
    )
    drift = (
        *interval("semantic_version_drift", "logodds", LOGODDS, *labels, "previous"),
        Column(
            query=one("semantic_version_drift_breach").by(*labels, "previous"),
            title="drifted",
            look=alarming("semantic_version_drift_breach"),
        ),
    )
    drawn = band(
        "$node",
        *limits("semantic_effect", "logodds", here),
        LOGODDS,
        counts=one("semantic_estimation_images", {"class": "$class"}).by(),
        repeat="node",
        width=6,
        alerts=both,
    )
    return (
        table("All nodes", columns, sort="spuriousness", width=24, height=10, alerts=(*both, "AuditPluginSpuriousHit")),
        table("Drift from the previous version", drift, width=24, height=6, alerts=("AuditPluginVersionDrift",)),
        drawn,
    )


def counterfactuals() -> tuple[Panel, ...]:
    """What flips decisions, and what changes along."""
    labels = ("method", "rung")
    attribute = (*labels, "class", "attribute", "role")
    here = {"method": "~$method"}
    columns = (
        *interval("counterfactual_flip", "ratio", SHARE, *labels),
        Column(query=one("counterfactual_free_flip_ratio").by(*labels), title="flipped by chance", look=SHARE),
        Column(query=one("counterfactual_median_distance_ratio").by(*labels), title="median change", look=SHARE),
        Column(query=one("counterfactual_witness_ratio").by(*labels), title="seen by a witness", look=SHARE),
        Column(query=one("counterfactual_adversarial_ratio").by(*labels), title="adversarial", look=SHARE),
        Column(query=one("counterfactual_images").by(*labels), title="samples", look=COUNT),
    )
    figures = (
        "correlation_difference_ratio",
        "correlation_difference_low_ratio",
        "correlation_difference_high_ratio",
        "jpeg_ratio",
    )
    faithful = (
        *(Column(query=one(f"counterfactual_{name}").by(*labels), title=_said(name), look=Look(decimals=3)) for name in figures),
        Column(query=one("counterfactual_flips").by(*labels), title="flips", look=COUNT),
        Column(query=one("counterfactual_network_rows").by(*labels), title="network rows an image", look=COUNT),
        Column(query=one("counterfactual_queries").by(*labels), title="queries an image", look=COUNT),
    )
    kinds = ("distance", "likeness_ratio", "set_images")
    alike = tuple(
        Column(query=one(f"counterfactual_{name}").by(*labels, "figure"), title=_said(name), look=Look(decimals=3))
        for name in kinds
    )
    gaps = (
        Column(query=one("counterfactual_attribute_gap_ratio").by(*attribute), title="gap", look=RATIO),
        Column(query=one("counterfactual_attribute_gap_low_ratio").by(*attribute), title="low", look=RATIO),
        *breach("counterfactual_breach", *attribute),
    )
    chance = Line(query=one("counterfactual_free_flip_ratio", here).by(), legend="by chance")
    return (
        table("Methods", columns, width=24, height=6),
        table("How far to trust them, and their cost", faithful, height=6),
        table("Distance and likeness", alike, height=6),
        table("Attributes that flip along", gaps, sort="gap", width=24, alerts=("AuditPluginCounterfactualAttributeGap",)),
        band(
            "$method: decisions flipped",
            *limits("counterfactual_flip", "ratio", here),
            SHARE,
            others=(chance,),
            counts=one("counterfactual_images", here).by(),
            repeat="method",
            width=8,
        ),
    )


def discovered() -> tuple[Panel, ...]:
    """What classes respond to."""
    word = ("class", "word", "part")
    words = (
        Column(query=one("cue_uplift_ratio").by(*word), title="rise of the score", look=RATIO),
        Column(query=one("cue_uplift_low_ratio").by(*word), title="low", look=RATIO),
        Column(query=one("discovered_cue_breach").by(*word), title="beyond the bound", look=alarming("discovered_cue_breach")),
    )
    absent = (
        Column(query=one("class_object_absent_ratio").by("class"), title="without the object", look=SHARE),
        Column(query=one("class_object_absent_low_ratio").by("class"), title="low", look=SHARE),
        Column(
            query=one("class_object_absent_breach").by("class"),
            title="beyond the bound",
            look=alarming("class_object_absent_breach"),
        ),
    )
    counts = Line(query=one("discovered_words").by("part"), legend="{{part}}")
    fit = Look(words={0: ("no", BAD), 1: ("yes", GOOD)})
    return (
        table("Words that make it answer with a class", words, sort="rise of the score", alerts=("AuditPluginDiscoveredCue",)),
        table(
            "Pictures taken for a class without its object",
            absent,
            sort="without the object",
            alerts=("AuditPluginClassObjectAbsent",),
        ),
        graph("Words that proved to act", (counts,), COUNT),
        stat("The generator draws what the model was made for", one("discovery_domain_fit").by(), fit, width=6),
        stat("Pictures asked about", one("discovery_queries").by(), COUNT, width=6),
    )


def shortcuts() -> tuple[Panel, ...]:
    """Flips of suspected concepts against those by the editor alone."""
    columns = (
        Column(query=one("shortcut_verdict").by("concept", "verdict")),
        *(
            Column(query=one(f"shortcut_{name}").by("concept"), title=said, look=SHARE if name != "flips" else COUNT)
            for name, said in (
                ("change_ratio", "change"),
                ("floor_ratio", "by the editor alone"),
                ("over_floor_ratio", "beyond the editor"),
                ("over_floor_low_ratio", "beyond the editor, low"),
                ("over_control_low_ratio", "beyond an irrelevant concept, low"),
                ("flips", "samples"),
            )
        ),
    )
    return (table("Suspected concepts", columns, sort="beyond the editor", width=24),)


def _said(name: str) -> str:
    return name.removesuffix("_ratio").replace("_", " ")
