"""Building and checking concept trees."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.concepts.tree import MAX_NODES, build_tree, checked, merge_alike, slug
from audit_plugin.concepts.tree_parents import Draft
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind


def box(path, **fields):
    """A container."""
    return Node(path=path, name=fields.pop("name", path), editable=False, **fields)


def prompt(path, **fields):
    """An editable generative node."""
    given = {"name": path, "prompt_add": path, "question": f"is there {path}?", **fields}
    return Node(path=path, **given)


def build(*drafts):
    return build_tree("faces", [Draft(node=node, parent=parent, line=at) for at, (node, parent) in enumerate(drafts, start=1)])


def paths(tree):
    return [node.path for node in tree.nodes]


def test_parents_may_come_later_and_be_ids_or_paths():
    """The order of a file does not matter; nodes end up parents first, siblings in their order."""
    tree = build(
        (prompt("red"), "face/hat"), (prompt("blue"), "hat"), (box("hat"), "face"), (prompt("beard"), "face"), (box("face"), "")
    )
    assert paths(tree) == ["face", "face/hat", "face/hat/red", "face/hat/blue", "face/beard"]


def test_an_id_may_be_used_twice_below_different_parents():
    """And is then named by its path."""
    tree = build((box("a"), ""), (box("b"), ""), (box("hat"), "a"), (box("hat"), "b"), (prompt("red"), "b/hat"))
    assert "b/hat/red" in paths(tree)


@pytest.mark.parametrize(
    ("drafts", "message"),
    [
        ([(box("face"), ""), (prompt("red"), "fase")], r"line 2: node 'red': parent 'fase' is no node; did you mean 'face'\?"),
        ([(box("a"), "b"), (box("b"), "a")], r"line 1: node 'a': it is its own ancestor \(a -> b -> a\)"),
        ([(box("a"), "a")], "it is its own ancestor"),
        ([(box("x"), ""), (box("y"), ""), (box("h"), "x"), (box("h"), "y"), (prompt("r"), "h")], "several nodes have the id 'h'"),
        ([(box("a"), ""), (box("b"), "a"), (prompt("r"), "c/b")], "line 3: node 'r': parent 'c/b' is no node"),
        ([(box("a"), ""), (box("b"), "a"), (box("c"), "b"), (box("d"), "c"), (box("e"), "d")], "5 levels deep, more than 4"),
        ([(box("Hat"), "")], r"up to 60 characters of a-z, 0-9 and _; write for example 'hat'"),
        ([(box("a b", name="x"), "")], "write for example 'a_b'"),
        ([(prompt("a", question=""), "")], "give `present` and `absent` sentences or a `vlm_question`"),
        ([(prompt("a", question="", present=("x",)), "")], "no verifier could tell"),
        ([(prompt("a", prompt_add=""), "")], "neither `prompt_add` nor `editable: false`"),
        ([(prompt("a", prompt_add=" \t"), "")], "neither `prompt_add` nor `editable: false`"),
        ([(prompt("a", present=(), absent=(), question="  "), "")], "no verifier could tell"),
        ([(prompt("a", threshold=1.0), "")], "threshold from 0 to below 1"),
        ([(prompt("a", scale=float("nan")), "")], "scale above 0"),
        ([(prompt("a", name="  "), "")], "it has no name"),
        ([(prompt("a", applies_to=()), "")], "`applies_to` is empty"),
        ([(prompt("a", name="x" * 501), "")], "1 to 500 characters"),
        ([(prompt("a", params={"op": "jpeg"}), "")], "set `operator: deterministic`"),
        ([(prompt("a", params={"concept": "site"}), "")], "`concept` and `level` together, or none, not 'concept'"),
        ([(prompt("a", params={"concept": "site", "level": "x", "lvl": 1}), "")], "not 'lvl'"),
        ([(prompt("a", operator="attribute"), "")], "an attribute node needs"),
        ([(prompt("a", operator="attribute", params={"attr": True, "value": 1}), "")], "an attribute node needs"),
        ([(prompt("a", operator="deterministic"), "")], "must name its operator as `op`"),
        ([(prompt("a", operator="deterministic", params={"op": "jpg"}), "")], r"'jpg' does not exist; did you mean 'jpeg'\?"),
        ([(prompt("a", operator="deterministic", params={"op": "jpeg", "q": 5}), "")], "no parameter 'q'; known: quality"),
        ([(prompt("a", operator="deterministic", params={"op": "jpeg"}), "")], "needs the parameter 'quality'"),
        (
            [(prompt("a", operator="deterministic", params={"op": "jpeg", "quality": 99}), "")],
            "a whole number from 1 to 95, got 99",
        ),
        (
            [(prompt("a", name="x"), ""), (prompt("a", name="y"), "")],
            "line 2: node 'a': another node has this path and another name",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(drafts, message):
    """With the line, the node and the cure."""
    with pytest.raises(ConfigError, match=message):
        build(*drafts)


def test_a_detector_is_a_verifier_too():
    """A node that is a level of a configured concept needs no sentences."""
    site = prompt("sun", question="", params={"concept": "site", "level": "sunlight"})
    assert build((site, "")).node("sun").editable


def test_a_tree_has_at_most_a_thousand_nodes():
    assert len(build(*((prompt(f"n{at}"), "") for at in range(MAX_NODES))).nodes) == MAX_NODES
    with pytest.raises(ConfigError, match="1001 nodes, more than 1000"):
        build(*((prompt(f"n{at}"), "") for at in range(MAX_NODES + 1)))


def test_a_long_chain_is_refused_as_too_deep():
    """Not by the interpreter's own limit."""
    chain = [(box(f"n{at}"), f"n{at - 1}" if at else "") for at in range(MAX_NODES)]
    with pytest.raises(ConfigError, match="levels deep"):
        build(*chain)


def test_names_are_tidied_and_siblings_of_one_name_merged():
    """Children of both stay, sentences of both are kept once, and a gap in the first is filled by the second."""
    tree = build(
        (prompt("hat", name=" Straw   HAT", present=("a hat",), absent=("no hat",), question=""), ""),
        (prompt("hat2", name="straw hat", present=("a hat", "one hat"), absent=("bare",), region="head"), ""),
        (prompt("red"), "hat2"),
        (prompt("blue"), "hat"),
    )
    assert paths(tree) == ["hat", "hat/blue", "hat/red"]
    hat = tree.node("hat")
    assert (hat.name, hat.present, hat.absent, hat.region) == ("straw hat", ("a hat", "one hat"), ("no hat", "bare"), "head")


def test_the_same_name_below_different_parents_is_not_merged():
    assert len(build((box("a"), ""), (box("b"), ""), (prompt("x"), "a"), (prompt("x"), "b")).nodes) == 4


def test_merging_never_loses_protection():
    """Whichever of the two comes first."""
    first, second = prompt("a", name="n"), prompt("b", name="n", kind=NodeKind.PROTECTED)
    for pair in ((first, second), (second, first)):
        (node,) = build(*((each, "") for each in pair)).nodes
        assert node.kind is NodeKind.PROTECTED


def test_two_operators_of_one_name_are_refused():
    """Merging them would drop an edit."""
    exact = [prompt(f"q{q}", name="jpeg", operator="deterministic", params={"op": "jpeg", "quality": q}) for q in (10, 20)]
    with pytest.raises(ConfigError, match="'jpeg' is there already with another operator"):
        build(*((node, "") for node in exact))


def test_names_that_mean_the_same_are_merged_by_an_encoder():
    """At a cosine of 0.95 and more; exact operators are left alone."""
    angle = {"beanie": 0.0, "knit cap": 0.1, "fedora": 1.2, "jpeg a": 0.0, "jpeg b": 0.0}
    exact = [
        prompt(f"j{q}", name=n, operator="deterministic", params={"op": "jpeg", "quality": q})
        for q, n in ((5, "jpeg a"), (9, "jpeg b"))
    ]
    tree = build(
        *((prompt(slug(name), name=name), "") for name in ("beanie", "knit cap", "fedora")), *((node, "") for node in exact)
    )
    merged = merge_alike(tree, lambda names: np.array([[np.cos(angle[n]), np.sin(angle[n])] for n in names]))
    assert paths(merged) == ["beanie", "fedora", "j5", "j9"]


def test_checked_is_idempotent_and_the_digest_follows_the_content():
    tree = build((box("a"), ""), (prompt("x"), "a"))
    assert checked(tree) == tree
    assert checked(tree).digest == tree.digest
    changed = ConceptTree(domain="faces", nodes=(tree.nodes[0], replace(tree.nodes[1], scale=5.0)))
    assert changed.digest != tree.digest


def test_slugs_are_ids_even_of_other_scripts():
    assert slug("очки") != slug("шляпа")
    assert slug("очки").startswith("n_")
    assert len(slug("x" * 500)) <= 60
