"""A concept tree of about thirty nodes with its effects, and pictures to look at."""

import dataclasses
import random

from audit_plugin.core.diffex_results import (
    ClassEffects,
    Combination,
    CounterClass,
    CoverageStep,
    DiffexResult,
    EditQuality,
    EffectState,
    Exemplar,
    NodeEffect,
    Untestable,
)
from audit_plugin.core.tree import NodeKind
from tests.findings import trees
from tests.findings.trees import around
from tests.report import factory

KINDS = {
    "object/shape": NodeKind.CORE, "object/colour/red": NodeKind.CONTEXT, "object/colour/green": NodeKind.CONTEXT,
    "object/colour/blue": NodeKind.CONTEXT, "object/colour/multicoloured_with_spots": NodeKind.CONTEXT, "object/size": NodeKind.CONTEXT,
    "scene/background/striped": NodeKind.NUISANCE, "scene/background/checked": NodeKind.NUISANCE,
    "scene/background/grass": NodeKind.NUISANCE, "scene/background/snow": NodeKind.NUISANCE, "scene/lighting/dim": NodeKind.NUISANCE,
    "scene/lighting/coloured": NodeKind.NUISANCE, "scene/lighting/backlight": NodeKind.NUISANCE, "marks/watermark": NodeKind.ARTEFACT,
    "marks/ruler": NodeKind.ARTEFACT, "marks/frame": NodeKind.ARTEFACT, "marks/text/date": NodeKind.ARTEFACT,
    "marks/text/logo": NodeKind.ARTEFACT, "quality/blur": NodeKind.QUALITY, "quality/noise": NodeKind.QUALITY,
    "quality/jpeg": NodeKind.QUALITY, "quality/contrast": NodeKind.QUALITY, "person/tone": NodeKind.PROTECTED,
    "person/age": NodeKind.PROTECTED, "person/glasses": NodeKind.PROTECTED,
}  # fmt: skip
"""Path -> kind of every node that was estimated."""
EFFECTS = {"object/shape": 1.4, "marks/watermark": 0.85, "scene/background/striped": -0.42, "person/tone": 0.24}
"""Log-odds where there is an effect."""
REASONS = (
    Untestable(node="scene/weather/rain", reason="the editor cannot draw it: 3 of 32 edits were valid"),
    Untestable(node="scene/weather/fog", reason="no text says whether it is there"),
    Untestable(node="object/texture", reason="two images show it, 8 are needed"),
)


def effects(gallery: factory.Gallery) -> ClassEffects:
    """The class "marked" with all nodes, strongest first, in good order."""
    nodes = sorted((_node(gallery, path) for path in KINDS), key=lambda node: -abs(node.effect.value))
    return dataclasses.replace(
        trees.class_effects(*nodes, class_name="marked"),
        combinations=(
            Combination(
                nodes=("marks/watermark", "scene/background/striped"), images=58, effect=around(1.5), gain=around(0.4),
                best_subset=("marks/watermark",), interaction=around(0.2), flip_rate=around(0.5), reported=True,
                operators=("deterministic",),
            ),
        ),
        minimal_flip_set=("object/shape",),
        coverage=(
            CoverageStep(node="object/shape", mean=1.1, explained=0.6), CoverageStep(node="marks/watermark", mean=0.6, explained=0.8),
        ),
    )  # fmt: skip


def grown(gallery: factory.Gallery, **changes: object) -> DiffexResult:
    """The tree's result."""
    return dataclasses.replace(trees.tree(), classes=(effects(gallery),), untestable=REASONS, **changes)


def _node(gallery: factory.Gallery, path: str) -> NodeEffect:
    kind, value = KINDS[path], EFFECTS.get(path)
    drawn = random.Random(path)
    small = value if value is not None else drawn.uniform(-0.06, 0.06)
    state = EffectState.EFFECT if value else drawn.choice([EffectState.NO_EFFECT, EffectState.INCONCLUSIVE])
    return trees.node(
        path, kind, small, class_name="marked", state=state, q=0.002 if value else 0.5, spuriousness=None if kind is NodeKind.CORE else 0.3,
        flags=() if value else ("no_placebo",),
        counter=CounterClass(class_name="plain", gain=around(0.7)) if value else None,
        quality=EditQuality(attempts=128, valid=0.9, ambiguous=0.0, failures={"V2": 0.03, "V1": 0.07}),
        exemplars=exemplars(gallery, small) if value else (),
    )  # fmt: skip


def exemplars(gallery: factory.Gallery, effect: float) -> tuple[Exemplar, ...]:
    """Three edits, at the 10th, 50th and 90th percentile."""
    plain = {"lighting": "bright", "background": "plain", "size": "large", "colour": "blue", "shape": "circle", "tone": "a"}
    return tuple(
        Exemplar(
            image=f"photo-{percentile:03}", seed=0, percentile=percentile, effect=effect * percentile / 50,
            before_sha256=gallery.add({**plain, "watermark": "absent"}, percentile),
            after_sha256=gallery.add({**plain, "watermark": "present"}, percentile),
        )
        for percentile in (10, 50, 90)
    )  # fmt: skip
