"""The default tree."""

import re
from pathlib import Path

import pytest

from audit_plugin.concepts.default_tree import default_tree, grafted
from audit_plugin.concepts.operators import OPERATORS
from audit_plugin.concepts.tree import checked
from audit_plugin.concepts.tree_io import tree_from_text
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import NodeKind

EXACT = {
    "quality/brightness": ["minus_30", "plus_30"],
    "quality/contrast": ["minus_40", "plus_40"],
    "quality/saturation": ["grey", "minus_50", "plus_50"],
    "quality/hue_cast": ["warm", "cool", "green"],
    "quality/gaussian_blur": ["px_1", "px_2", "px_4"],
    "quality/motion_blur": ["px_9", "px_17"],
    "quality/noise": ["sd_8", "sd_16", "sd_32"],
    "quality/jpeg": ["q_50", "q_20", "q_10"],
    "quality/downscale": ["x2", "x4"],
    "quality/gamma": ["0_6", "1_6"],
    "quality/posterise": ["bits_4"],
    "geometry/rotate": ["minus_10", "plus_10", "minus_30", "plus_30", "plus_90"],
    "geometry/zoom": ["1_2", "1_5"],
    "geometry/zoom_out": ["0_7"],
    "geometry/translate": ["minus_10", "plus_10"],
    "occlusion/grey_patch": ["centre", "top_left", "top_right", "bottom_left", "bottom_right"],
    "artefact/border": ["white", "black"],
    "lighting/gradient": ["left", "right", "top", "bottom"],
}
ALONE = ["quality/vignette", "geometry/hflip", "geometry/vflip", "geometry/crop_corner", "occlusion/background_grey"]
ALONE += ["occlusion/object_grey", *(f"artefact/{n}" for n in ("timestamp_text", "watermark_text", "logo_box", "ruler_strip"))]
ALONE += ["artefact/marker_circle", "artefact/hair_lines", "artefact/lens_dust"]
GENERATIVE = {
    "lighting": 6,
    "weather_season": 4,
    "background": 15,
    "cooccurrence": 9,
    "viewpoint": 5,
    "subject_colour": 10,
    "subject_texture": 9,
    "subject_state": 9,
    "medium": 6,
}


ON_REQUEST = {"invert", "raised_black", "mirror_border", "flat_border", "corner_mark"}


def leaves(tree, operator):
    return [node for node in tree.editable if (node.operator == "deterministic") == (operator == "exact")]


def test_every_exact_node_of_the_specification_is_there():
    """One per value, and every operator is used, but those that suit special pictures only."""
    nodes = leaves(default_tree("scenes"), "exact")
    wanted = [f"{parent}/{own}" for parent, values in EXACT.items() for own in values] + ALONE
    assert sorted(node.path for node in nodes) == sorted(wanted)
    assert set(OPERATORS) - {node.params["op"] for node in nodes} <= ON_REQUEST


def test_parameters_are_the_specified_ones():
    tree = default_tree("scenes")
    assert dict(tree.node("quality/brightness/minus_30").params) == {"op": "brightness", "change": -0.3}
    assert tree.node("quality/noise/sd_16").params["sd"] == 16
    assert tree.node("geometry/zoom_out/0_7").params["factor"] == 0.7
    assert tree.node("occlusion/grey_patch/centre").params["area"] == 0.2
    assert tree.node("geometry/rotate/minus_30").params["degrees"] == -30


def test_every_generative_family_is_whole_and_can_be_verified():
    """With prompt, both sentences, which differ, and a question."""
    nodes = leaves(default_tree("scenes"), "prompt")
    counts = {family: sum(node.path.startswith(f"{family}/") for node in nodes) for family in GENERATIVE}
    assert counts == GENERATIVE
    for node in nodes:
        assert node.prompt_add
        assert node.present != node.absent
        assert node.present[0]
        assert node.question.endswith("? yes or no")


def test_people_are_there_only_when_asked_for_and_protected():
    """17 perceived attributes."""
    assert not any(node.kind is NodeKind.PROTECTED for node in default_tree("faces").nodes)
    people = [node for node in default_tree("faces", people=True).nodes if node.path.startswith("people")]
    assert len(people) == 18
    assert {node.kind for node in people} == {NodeKind.PROTECTED}


def test_placeholders_are_expanded_for_the_classes():
    """One class: in the nodes themselves; several: a child for each, which applies to it alone; none: the main subject."""
    one, two, none = (default_tree("things", classes) for classes in (["cat"], ["tabby_cat, Felis catus", "orange"], []))
    assert (one.node("subject_colour/red").prompt_add, one.node("subject_colour/red").applies_to) == ("a red cat", ("cat",))
    assert none.node("subject_colour/orange").prompt_add == "an orange main subject"
    assert not two.node("subject_colour/red").editable
    cat = two.node("subject_state/lying_down/tabby_cat")
    assert (cat.prompt_add, cat.applies_to) == ("a tabby cat lying down", ("tabby_cat, Felis catus",))
    assert two.node("subject_state/lying_down/orange").prompt_add == "an orange lying down"
    assert "subject_colour/red/orange" in {node.path for node in two.for_class("orange")}
    assert "subject_colour/red/orange" not in {node.path for node in two.for_class("tabby_cat, Felis catus")}
    for tree in (one, two, none):
        assert not any("{" in text for node in tree.nodes for text in (node.prompt_add, node.question, *node.present, *node.absent))


def test_names_of_users_are_never_expanded():
    """Braces in a class or a domain stay what they are."""
    tree = default_tree("{class} {0.__class__}", ["{what} {base}"])
    node = tree.node("subject_colour/red")
    assert node.prompt_add == "a red {what} {base}"
    assert tree.node("lighting/night").present == ("a photo of {class} {0.__class__}, at night",)


def test_exclusive_groups_follow_sense():
    """Two backgrounds never meet, two artefacts may, older and younger never, old and broken may."""
    tree = default_tree("faces", people=True)
    assert not tree.compatible("background/grass", "background/forest")
    assert not tree.compatible("quality/jpeg/q_10", "quality/jpeg/q_50")
    assert tree.compatible("artefact/logo_box", "artefact/ruler_strip")
    assert not tree.compatible("people/older", "people/younger")
    assert tree.compatible("people/older", "people/hat")
    assert tree.compatible("subject_state/old", "subject_state/broken")


def test_a_grafted_tree_keeps_both_and_is_grafted_once():
    """Groups move along, and depth stays within the limit."""
    own = tree_from_text('{"domain": "faces", "categories": {"hair": {"blond": ["ash blond"]}}}', json_only=True)
    tree = grafted(own, ["a", "b"], people=True)
    assert tree.node("hair/blond/ash_blond").prompt_add == "ash blond"
    assert tree.node("default/subject_colour/red/a").depth == 4
    assert not tree.compatible("default/subject_colour/red/a", "default/subject_colour/blue/a")
    assert grafted(tree) is tree
    assert checked(tree) == tree


def test_too_many_classes_are_refused():
    with pytest.raises(ConfigError, match="more than 1000"):
        default_tree("things", [f"class {at}" for at in range(40)])


def test_the_page_on_concept_trees_is_true():
    """Its example is read, its table lists all operators in their order with their parameters, and it counts right."""
    page = (Path(__file__).parents[2] / "docs" / "concept-trees.md").read_text(encoding="utf-8")
    assert tree_from_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1)).node("facewear/sunglasses").editable
    rows = re.findall(
        r"^\| (`.*?) \| (.*?) \|", page[page.index("| operator | parameters") : page.index("## Letting")], re.MULTILINE
    )
    told = [name for row, _ in rows for name in re.findall(r"`(\w+)`", row)]
    assert told == list(OPERATORS)
    for row, parameters in rows:
        names = re.findall(r"`(\w+)`", row)
        assert {key for name in names for key in OPERATORS[name].parameters} == set(re.findall(r"`(\w+)`", parameters))
    tree = default_tree("x", people=True)
    assert f"Its {len(leaves(tree, 'exact'))} deterministic" in page
    assert f"adds {sum(node.kind is NodeKind.PROTECTED and node.editable for node in tree.nodes)} perceived" in page
