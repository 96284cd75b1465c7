"""What edits are asked for, before anything is made."""

from dataclasses import replace

import pytest

from audit_plugin.bank.asks import Asking, concept_nodes, with_nodes
from audit_plugin.bank.drafts import AMBIGUOUS, IDENTITY, UNTESTABLE, Drafting, Strength, batches_of
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.core.values import Concept
from audit_plugin.demo.renderer import SCENES, parse
from tests.bank.edit_world import (
    BRIGHT,
    FLIPPED,
    GRAINY,
    GRASS,
    MASKED,
    NUMBERS,
    RULER,
    TREE,
    cell,
    new_editor,
    sources,
    values_of,
)

THERE, GONE, UNSURE = {"ruler": [0.1, 0.9]}, {"ruler": [0.9, 0.1]}, {"ruler": [0.5, 0.5]}
PROMPT = Node(path="glare", name="glare", prompt_add="with glare", params={"concept": "ruler", "level": "present"})


def drafting(**more):
    known = {"audit": "demo", "tree": TREE, "sources": sources(), "editor": new_editor(), "size": 64}
    return Drafting(**(known | {"asking": Asking(SCENES), "judged": True} | more))


def decided(wanted, reading=GONE, **more):
    drafter = drafting(**more)
    return drafter.decided(drafter.draft(wanted), reading)


def test_noise_never_depends_on_the_node():
    """One seed per (audit, image, replicate), and one null edit for everything that is asked of an image."""
    drafter = drafting()
    wanted = [cell(1, RULER), cell(1, GRASS), cell(1, RULER, GRASS), cell(1, RULER, BRIGHT.path), cell(1, "photo", placebo=True)]
    assert len({drafter.seed(one) for one in wanted}) == len({drafter.draft(one).null for one in wanted}) == 1
    others = [drafter.seed(cell(2, RULER)), drafter.seed(cell(1, RULER, seed=1)), drafting(audit="x").seed(cell(1, RULER))]
    assert len({drafter.seed(wanted[0]), *others}) == 4


@pytest.mark.parametrize(("reading", "signs", "reasons"), [(THERE, (-1,), ()), (GONE, (1,), ()), (UNSURE, (1,), (AMBIGUOUS,))])
def test_the_direction_follows_from_what_is_there(reading, signs, reasons):
    """What is there is removed, what is not is added, and nothing is done where nobody can tell."""
    draft = decided(cell(1, RULER), reading)
    assert (draft.signs, draft.reasons, bool(draft.asks), bool(draft.recipe)) == (signs, reasons, not reasons, not reasons)


@pytest.mark.parametrize(("p", "sign"), [(0.0, 1), (0.4, 1), (0.41, 0), (0.59, 0), (0.6, -1), (1.0, -1)])
def test_where_ambiguity_begins(p, sign):
    draft = decided(cell(1, RULER), {"ruler": [1 - p, p]})
    assert (draft.reasons == (AMBIGUOUS,)) is (sign == 0)
    assert sign in {0, draft.signs[0]}


def test_an_ask_changes_the_words_of_its_node_alone():
    """Adding says the level, removing another one; all other concepts are said as they are."""
    for reading, level in ((GONE, 1), (THERE, 0)):
        (ask,) = decided(cell(1, RULER), reading).asks
        before, after = parse(ask.source), parse(ask.target)
        assert before == values_of(1)
        assert after[NUMBERS["ruler"]] == level
        assert [b for at, b in enumerate(before) if at != NUMBERS["ruler"]] == [
            a for at, a in enumerate(after) if at != NUMBERS["ruler"]
        ]


def test_what_a_removed_level_gives_way_to_is_drawn_by_image():
    """Never itself, always the same for an image, and not the same for all."""
    drafter, at = drafting(sources=sources(40)), NUMBERS["background"]
    given = []
    for image in range(0, 40, 4):  # those on grass
        asks = [drafter.decided(drafter.draft(cell(image, GRASS)), {"background": [1, 0, 0, 0]}).asks for _ in range(2)]
        assert asks[0] == asks[1]
        given.append(parse(asks[0][0].target)[at])
    assert set(given) == {1, 2, 3}


@pytest.mark.parametrize(
    ("node", "sign", "target", "asked"),
    [
        (PROMPT, 1, "with glare", 1),
        (PROMPT, -1, "with glare", -1),  # reverse guidance
        (replace(PROMPT, prompt_remove="matt"), -1, "matt", 1),
        (replace(PROMPT, prompt_add=""), 1, "glare", 1),
    ],
)
def test_prompts_are_asked_for_where_nothing_is_described(node, sign, target, asked):
    ask = Asking(None, "a desk").ask(node, sign, sources()["i0"])
    assert (ask.target, ask.source, ask.sign) == (target, "a desk", asked)


@pytest.mark.parametrize(
    ("path", "more", "reason"),
    [
        (RULER, {"editor": None}, "needs a generator to edit with"),
        (RULER, {"judged": False}, "no independent judge can tell"),
        (RULER, {"editor": new_editor(refuses="too small")}, "too small"),
        ("ruler", {}, "it only holds other nodes"),
        (MASKED.path, {}, "needs a mask of the object"),
        (MASKED.path, {"editor": None}, "needs a mask of the object"),
    ],
)
def test_what_cannot_be_tested_says_why(path, more, reason):
    """Alone and in company; nothing is asked for."""
    for nodes in ((path,), (path, BRIGHT.path)):
        draft = decided(cell(1, *nodes), **more)
        assert draft.reasons[0].startswith(f"{UNTESTABLE}: ")
        assert reason in draft.reasons[0]
        assert (draft.asks, draft.recipe, len(draft.signs)) == ((), "", len(nodes))


def test_the_reason_of_a_node_that_could_not_be_edited_is_passed_on():
    nodes = tuple(replace(node, editable=False, reason="V1 failed") if node.path == RULER else node for node in TREE.nodes)
    assert decided(cell(1, RULER), tree=replace(TREE, nodes=nodes)).reasons == (f"{UNTESTABLE}: V1 failed",)


def test_a_node_that_no_detector_reads_is_untestable():
    """Its params must name a concept and a level that are read."""
    unread = replace(PROMPT, params={"concept": "ruler", "level": "bent"})
    assert drafting().refusal(PROMPT) == ""
    assert "no independent judge" in drafting().refusal(unread)
    assert "no independent judge" in drafting().refusal(replace(PROMPT, params={}))


def test_placebos_ask_for_a_word_and_are_read_by_nobody():
    """The image's own caption with the word; without an editor they would change nothing."""
    draft = decided(cell(1, "photo", placebo=True), {})
    assert (draft.asks[0].target, draft.asks[0].node) == (f"{draft.asks[0].source}, photo", None)
    assert draft.recipe != decided(cell(1, "view", placebo=True), {}).recipe
    bare = decided(cell(1, "photo", placebo=True), editor=None)
    assert (bare.reasons, bare.recipe) == ((IDENTITY,), "")


def test_placebos_are_as_strong_as_what_they_are_compared_with():
    """In the middle of the nodes that are asked for in the same form; nodes of another form say nothing of it."""
    found = {
        RULER: Strength(scale=2.0, threshold=0.1),
        GRASS: Strength(scale=3.0, threshold=0.2),
        BRIGHT.path: Strength(scale=15.0, threshold=0.4),
    }
    drafter = drafting(strengths=found)
    of_its_form = [each.scale for path, each in found.items() if drafter.asking.captioned(drafter.tree.node(path))]
    (ask,) = drafter.decided(drafter.draft(cell(1, "photo", placebo=True)), {}).asks
    assert ask.scale == sorted(of_its_form)[(len(of_its_form) - 1) // 2]
    (plain,) = decided(cell(1, "photo", placebo=True), {}).asks
    assert plain.scale == 1.0


def test_recipes_hold_all_that_decides_the_pixels():
    """Editor, image, replicate, terms, strength; not the batch, and not the order of the nodes."""
    strong = {RULER: Strength(scale=2.0, threshold=0.0)}
    recipes = [
        decided(cell(1, RULER)).recipe,
        decided(cell(3, RULER)).recipe,
        decided(cell(1, RULER, seed=1)).recipe,
        decided(cell(1, RULER), THERE).recipe,
        decided(cell(1, RULER), strengths=strong).recipe,
        decided(cell(1, RULER), editor=new_editor(fingerprint="another")).recipe,
        decided(cell(1, RULER, BRIGHT.path)).recipe,
        decided(cell(1, BRIGHT.path)).recipe,
    ]
    assert len(set(recipes)) == len(recipes)
    assert decided(cell(1, RULER)).recipe == recipes[0]


def test_exact_edits_are_drawn_anew_for_every_replicate_and_image():
    """Grain is keyed by (audit, image, replicate), also where two rows show the same file."""
    twins = sources() | {"twin": replace(sources()["i1"], image="twin")}
    drafts = [
        decided(one, {}, sources=twins)
        for one in (cell(1, GRAINY.path), cell(1, GRAINY.path, seed=1), replace(cell(1, GRAINY.path), image="twin"))
    ]
    assert len({draft.recipe for draft in drafts}) == 3
    assert len({draft.null for draft in drafts}) == 1


def test_another_version_of_the_operators_is_another_picture(monkeypatch):
    before = decided(cell(1, FLIPPED.path)).recipe
    monkeypatch.setattr("audit_plugin.bank.drafts.VERSION", 10**6)
    assert decided(cell(1, FLIPPED.path)).recipe != before


def test_a_batch_has_one_strength():
    """Of equal signs and strengths, no larger than asked, nobody left out, whatever the order."""
    drafter = drafting(strengths={GRASS: Strength(scale=2.0, threshold=0.0)}, asking=Asking(None, "a desk"), tree=_prompts())
    wanted = [cell(at, path) for at in range(6) for path in (RULER, GRASS, BRIGHT.path)]
    drafts = [drafter.decided(drafter.draft(one), THERE if int(one.image[1:]) % 2 else GONE) for one in wanted]
    batches = batches_of(drafts, 2)
    assert sorted(draft.cell for batch in batches for draft in batch) == sorted(wanted)
    assert max(map(len, batches)) == 2
    for batch in batches:
        assert len({tuple((ask.sign, ask.scale) for ask in draft.generated) for draft in batch}) == 1
    assert [[one.cell for one in batch] for batch in batches_of(drafts[::-1], 2)] == [[d.cell for d in batch] for batch in batches]


def _prompts():
    judged = {"concept": "ruler", "level": "present"}
    nodes = tuple(Node(path=path, name=path, prompt_add="x", params=judged) for path in (RULER, GRASS))
    return ConceptTree(domain="x", nodes=(*nodes, BRIGHT))


def test_every_level_that_is_said_is_a_node():
    """Below a container of its concept; levels without words are the removal of the others."""
    nodes = {node.path: node for node in concept_nodes(SCENES)}
    assert [path for path in nodes if path.startswith("background")] == [
        "background",
        GRASS,
        "background/water",
        "background/sand",
        "background/brick",
    ]
    assert [path for path in nodes if path.startswith("ruler")] == ["ruler", RULER]
    assert not nodes["ruler"].editable
    tree = ConceptTree(domain="x", nodes=tuple(nodes.values()))
    assert not tree.compatible(GRASS, "background/sand")
    assert tree.compatible(GRASS, RULER)


def test_concepts_in_any_script_are_nodes_of_their_own():
    """Names without an ASCII letter are still different names."""
    concepts = [Concept(name=name, levels=("大", "小"), phrases=("large " + name, "small " + name)) for name in ("背景", "颜色")]
    paths = [node.path for node in concept_nodes(ConceptSet(concepts=tuple(concepts)))]
    assert len(set(paths)) == len(paths) == 6


def test_added_nodes_leave_the_tree_its_own():
    """What has a path stays as it is; children never come before their parents."""
    own = ConceptTree(domain="x", nodes=(Node(path="ruler", name="mine", editable=False), Node(path="glare", name="glare")))
    both = with_nodes(own, concept_nodes(SCENES))
    assert both.node("ruler").name == "mine"
    assert {node.path for node in both.nodes} == {"ruler", "glare"} | {node.path for node in concept_nodes(SCENES)}
    seen = {""}
    for node in both.nodes:
        assert node.parent in seen
        seen.add(node.path)
