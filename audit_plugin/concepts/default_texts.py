"""The generative half of the default tree: prompts, verifier sentences and questions.  diffex_diffexplainer.md 3.4.

``{base}`` is the base caption, ``{what}`` the phrase of a row, ``{other}`` its opposite and ``{class}`` a class name (``{a class}`` with its article); they are filled in
when the tree is made, and nothing that a user or a model wrote is ever expanded.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from audit_plugin.core.tree import NodeKind


@dataclass(frozen=True, kw_only=True)
class Family:
    """Nodes that are phrased alike."""

    kind: NodeKind
    rows: Mapping[str, str | tuple[str, str]]
    """Id -> phrase, or phrase and its opposite."""
    prompt: str = "{what}"
    present: str = "{base}, {what}"
    absent: str = "{base}, {other}"
    other: str = ""
    """Opposite of the rows that give none; empty: the absent sentence is the base caption alone."""
    question: str = "Is this picture taken {what}? yes or no"
    combinable: bool = False
    """Two of its nodes may be applied together."""
    per_class: bool = False
    """It speaks of the class: one node for each."""
    groups: Mapping[str, str] | None = None
    """Id -> exclusive group, where the family has several."""


_PERSON = "a photo of a person"

FAMILIES: Mapping[str, Family] = {
    "lighting": Family(
        kind=NodeKind.NUISANCE,
        rows={
            "night": ("at night", "in daylight"),
            "backlight": ("against a bright light behind the subject", "with light from the front"),
            "harsh_shadow": ("with harsh shadows", "in soft even light"),
            "flash": ("with a camera flash", "in natural light"),
            "golden_hour": ("in warm golden hour light", "in neutral daylight"),
            "fog": ("in thick fog", "in clear air"),
        },
    ),
    "weather_season": Family(
        kind=NodeKind.CONTEXT,
        rows={
            "snow": ("in falling snow", "in dry weather without snow"),
            "rain": ("in the rain", "in dry weather"),
            "autumn_leaves": ("among autumn leaves", "in summer"),
            "dry_season": ("in the dry season, with parched ground", "with lush green ground"),
        },
    ),
    "background": Family(
        kind=NodeKind.CONTEXT,
        rows={
            "grass": "grass",
            "forest": "a forest",
            "water": "water",
            "beach_sand": "beach sand",
            "snow_field": "a snow field",
            "desert": "a desert",
            "clear_sky": "a clear sky",
            "city_street": "a city street",
            "indoor_room": "an indoor room",
            "kitchen": "a kitchen",
            "plain_white_wall": "a plain white wall",
            "black_studio_backdrop": "a black studio backdrop",
            "wooden_table": "a wooden table",
            "hands_holding_it": "hands holding it",
            "crowd": "a crowd of people",
        },
        prompt="{what} in the background",
        present="{base}, with {what} in the background",
        absent="{base}, with another background",
        question="Does the background show {what}? yes or no",
    ),
    "cooccurrence": Family(
        kind=NodeKind.CONTEXT,
        rows={
            "person_nearby": "a person nearby",
            "human_hand": "a human hand",
            "animal_nearby": "an animal nearby",
            "vehicle_nearby": "a vehicle nearby",
            "food_nearby": "food nearby",
            "furniture": "furniture",
            "tools": "tools",
            "plants": "plants",
            "printed_text": "printed text",
        },
        present="{base}, with {what}",
        absent="{base}, with nothing else",
        question="Does the picture also show {what}? yes or no",
        combinable=True,
    ),
    "viewpoint": Family(
        kind=NodeKind.NUISANCE,
        rows={
            "close_up": ("in close-up", "from some distance"),
            "far_away": ("from far away", "from close by"),
            "from_above": ("from above", "from eye level"),
            "from_the_side": ("from the side", "from the front"),
            "partially_cropped": ("with the subject partially cropped", "with the whole subject in the frame"),
        },
    ),
    "subject_colour": Family(
        kind=NodeKind.NUISANCE,
        rows={name: name for name in ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey")},
        prompt="{a what} {class}",
        present="a photo of {a what} {class}",
        absent="a photo of {a class} of another colour",
        question="Is the {class} {what}? yes or no",
        per_class=True,
    ),
    "subject_texture": Family(
        kind=NodeKind.NUISANCE,
        rows={
            "striped": "striped",
            "spotted": "spotted",
            "plain": "plain, unpatterned",
            "furry": "furry",
            "shiny_metallic": "shiny metallic",
            "rusty": "rusty",
            "wet": "wet",
            "dirty": "dirty",
            "transparent": "transparent",
        },
        prompt="{a what} {class}",
        present="a photo of {a what} {class}",
        absent="a photo of {a class} with another surface",
        question="Is the {class} {what}? yes or no",
        per_class=True,
    ),
    "subject_state": Family(
        kind=NodeKind.NUISANCE,
        rows={
            "old": ("an old {class}", "a new {class}"),
            "new": ("a new {class}", "an old {class}"),
            "broken": ("a broken {class}", "an intact {class}"),
            "open": ("an open {class}", "a closed {class}"),
            "closed": ("a closed {class}", "an open {class}"),
            "moving": ("a moving {class}", "{a class} that stands still"),
            "lying_down": ("{a class} lying down", "{a class} standing upright"),
            "group_of_several": ("more than one {class}", "a single {class}"),
            "very_small": ("a very small {class}", "a large {class}"),
        },
        present="a photo of {what}",
        absent="a photo of {other}",
        question="Does the picture show {what}? yes or no",
        groups={
            "old": "age",
            "new": "age",
            "broken": "integrity",
            "open": "opening",
            "closed": "opening",
            "moving": "motion",
            "lying_down": "motion",
            "group_of_several": "number",
            "very_small": "size",
        },
        per_class=True,
    ),
    "medium": Family(
        kind=NodeKind.NUISANCE,
        rows={
            "pencil_sketch": "a pencil sketch",
            "oil_painting": "an oil painting",
            "cartoon": "a cartoon",
            "toy_figure": "a toy figure",
            "render_3d": "a 3d render",
            "black_and_white_photo": ("a black-and-white photo", "a colour photo"),
        },
        present="{what} of {domain}",
        absent="{other} of {domain}",
        other="a photo",
        question="Is this {what}? yes or no",
    ),
}

PEOPLE = Family(
    kind=NodeKind.PROTECTED,
    rows={
        "darker_skin": ("darker skin", "lighter skin"),
        "lighter_skin": ("lighter skin", "darker skin"),
        "older": ("an older face", "a younger face"),
        "younger": ("a younger face", "an older face"),
        "more_masculine": ("a more masculine face", "a more feminine face"),
        "more_feminine": ("a more feminine face", "a more masculine face"),
        "long_hair": ("long hair", "short hair"),
        "short_hair": ("short hair", "long hair"),
        "beard": ("a beard", "a shaven chin"),
        "moustache": ("a moustache", "a shaven upper lip"),
        "glasses": ("glasses", "no glasses"),
        "sunglasses": ("sunglasses", "no sunglasses"),
        "headscarf": ("a headscarf", "an uncovered head"),
        "hat": ("a hat", "an uncovered head"),
        "make_up": ("make-up", "no make-up"),
        "smile": ("a smile", "a neutral expression"),
        "neutral_expression": ("a neutral expression", "a smile"),
    },
    prompt="a person with {what}",
    present=f"{_PERSON} with {{what}}",
    absent=f"{_PERSON} with {{other}}",
    question="Does the person appear to have {what}? yes or no",
    groups={
        "darker_skin": "skin",
        "lighter_skin": "skin",
        "older": "age",
        "younger": "age",
        "more_masculine": "gender",
        "more_feminine": "gender",
        "long_hair": "hair",
        "short_hair": "hair",
        "beard": "beard",
        "moustache": "moustache",
        "glasses": "eyewear",
        "sunglasses": "eyewear",
        "headscarf": "headwear",
        "hat": "headwear",
        "make_up": "make_up",
        "smile": "expression",
        "neutral_expression": "expression",
    },
)
"""Attributes of people as they are perceived; tested only where somebody asked for it."""
