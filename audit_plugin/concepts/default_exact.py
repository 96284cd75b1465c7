"""The exact half of the default tree: every deterministic node, with its parameters.  diffex_diffexplainer.md 3.4.

A row is (path, name, parameters); what is above a path's last part becomes a container.
"""

from collections.abc import Iterator, Mapping

from audit_plugin.concepts.operators_artefact import BORDERS
from audit_plugin.concepts.operators_geometry import PLACES
from audit_plugin.concepts.operators_tone import CASTS, TOWARDS
from audit_plugin.core.tree import Node, NodeKind

Params = Mapping[str, str | int | float | bool]
OPEN_GROUPS = ("artefact",)
"""Families whose members are independent of each other, so that they may be combined."""
KINDS: Mapping[str, NodeKind] = {
    "quality": NodeKind.QUALITY,
    "geometry": NodeKind.QUALITY,
    "occlusion": NodeKind.QUALITY,
    "occlusion/background_grey": NodeKind.CONTEXT,
    "occlusion/object_grey": NodeKind.CORE,
    "artefact": NodeKind.ARTEFACT,
    "lighting": NodeKind.NUISANCE,
}
"""Of a family or of one node in it.  How a picture is turned, cut or covered is part of how well it shows anything; a patch may cover
the object.  Without its object a picture should score lower: that is healthy."""


def exact_rows() -> Iterator[tuple[str, str, Params]]:
    """All deterministic nodes in reading order."""
    yield from _tone()
    yield from _detail()
    yield from _geometry()
    for place in PLACES:
        words = place.replace("_", " ")
        yield f"occlusion/grey_patch/{place}", f"grey patch, {words}", {"op": "grey_patch", "place": place, "area": 0.2}
    yield "occlusion/background_grey", "grey background", {"op": "background_grey"}
    yield "occlusion/object_grey", "grey object", {"op": "object_grey"}
    yield from _artefacts()


def exact_lighting() -> Iterator[tuple[str, str, Params]]:
    """The deterministic nodes among the lighting."""
    for side in TOWARDS:
        yield f"lighting/gradient/{side}", f"light from the {side}", {"op": "light_gradient", "side": side, "strength": 0.4}


def _tone() -> Iterator[tuple[str, str, Params]]:
    for name, percent in {"brightness": 30, "contrast": 40}.items():
        for word, sign in {"minus": -1, "plus": 1}.items():
            yield f"quality/{name}/{word}_{percent}", f"{name} {sign * percent:+d} %", {"op": name, "change": sign * percent / 100}
    for own, change in {"grey": -1.0, "minus_50": -0.5, "plus_50": 0.5}.items():
        yield f"quality/saturation/{own}", f"saturation {100 * change:+.0f} %", {"op": "saturation", "change": change}
    for cast in CASTS:
        yield f"quality/hue_cast/{cast}", f"{cast} colour cast", {"op": "hue_cast", "cast": cast}
    for gamma in (0.6, 1.6):
        yield f"quality/gamma/{_id(gamma)}", f"gamma {gamma}", {"op": "gamma", "gamma": gamma}
    yield "quality/posterise/bits_4", "posterised to 4 bits", {"op": "posterise", "bits": 4}
    yield "quality/vignette", "vignette", {"op": "vignette", "strength": 0.6}


def _detail() -> Iterator[tuple[str, str, Params]]:
    for sigma in (1, 2, 4):
        yield (
            f"quality/gaussian_blur/px_{sigma}",
            f"gaussian blur, {sigma} px of 224",
            {"op": "gaussian_blur", "sigma_px": float(sigma)},
        )
    for length in (9, 17):
        yield (
            f"quality/motion_blur/px_{length}",
            f"motion blur, {length} px of 224",
            {"op": "motion_blur", "length_px": float(length)},
        )
    for sd in (8, 16, 32):
        yield f"quality/noise/sd_{sd}", f"noise, {sd} of 255", {"op": "noise", "sd": float(sd)}
    for quality in (50, 20, 10):
        yield f"quality/jpeg/q_{quality}", f"jpeg, quality {quality}", {"op": "jpeg", "quality": quality}
    for factor in (2, 4):
        yield f"quality/downscale/x{factor}", f"resolution divided by {factor}", {"op": "downscale", "factor": float(factor)}


def _geometry() -> Iterator[tuple[str, str, Params]]:
    yield "geometry/hflip", "left and right exchanged", {"op": "hflip"}
    yield "geometry/vflip", "upside down", {"op": "vflip"}
    for degrees in (-10, 10, -30, 30, 90):
        word = "minus" if degrees < 0 else "plus"
        yield (
            f"geometry/rotate/{word}_{abs(degrees)}",
            f"turned by {degrees:+d} degrees",
            {"op": "rotate", "degrees": float(degrees)},
        )
    for factor in (1.2, 1.5):
        yield f"geometry/zoom/{_id(factor)}", f"zoomed in by {factor}", {"op": "zoom", "factor": factor}
    yield "geometry/zoom_out/0_7", "zoomed out to 0.7", {"op": "zoom_out", "factor": 0.7}
    for word, share in {"minus": -0.1, "plus": 0.1}.items():
        yield (
            f"geometry/translate/{word}_10",
            f"moved sideways by {100 * share:+.0f} %",
            {"op": "translate", "dx": share, "dy": 0.0},
        )
    yield "geometry/crop_corner", "cropped to a corner", {"op": "crop_corner", "corner": "top_left", "keep": 0.8}


def _artefacts() -> Iterator[tuple[str, str, Params]]:
    for colour in BORDERS:
        yield f"artefact/border/{colour}", f"{colour} border", {"op": "border", "colour": colour, "width_px": 10.0}
    for name in ("timestamp_text", "watermark_text", "logo_box", "ruler_strip", "marker_circle"):
        yield f"artefact/{name}", name.replace("_", " "), {"op": name}
    yield "artefact/hair_lines", "hair lines", {"op": "hair_lines", "count": 8}
    yield "artefact/lens_dust", "lens dust", {"op": "lens_dust", "count": 25}


def exact_node(path: str, name: str, params: Params) -> Node:
    """The node of one row."""
    family = path.partition("/")[0]
    group = path if family in OPEN_GROUPS and path.count("/") == 1 else ""
    region = "main subject" if params["op"] in {"background_grey", "object_grey"} else ""
    kind = KINDS.get(path, KINDS[family])
    return Node(
        path=path, name=name, kind=kind, group=group, operator="deterministic", params=params, region=region, source="default"
    )


def _id(number: float) -> str:
    return str(number).replace(".", "_")
