"""Strengths are found once, and what cannot be edited is told with the reason."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.asks import Asking, concept_nodes
from audit_plugin.bank.drafts import UNDESCRIBED, Strength
from audit_plugin.bank.pilot import CAPTION_SCALES, Pilot, keep_pilot, known_pilot, pilot_key, run_pilot
from audit_plugin.concepts.captions import caption
from audit_plugin.core.errors import BankError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.demo.renderer import SCENES
from audit_plugin.sources.images import to_uint8
from tests.bank.edit_world import (
    BRIGHT,
    GRASS,
    KINDS,
    MASKED,
    RULER,
    SceneEditor,
    cell,
    new_editor,
    new_judge,
    new_studio,
    sources,
    values_of,
)

IMAGES = [f"i{at}" for at in range(6)]
TREE = ConceptTree(
    domain="scenes",
    nodes=(*(node for node in concept_nodes(SCENES) if node.path in {"ruler", RULER, "background", GRASS}), BRIGHT, MASKED),
)
ALONE = replace(TREE, nodes=tuple(node for node in TREE.nodes if node.path in {"ruler", RULER, BRIGHT.path}))
FOUND = Pilot(key="k", strengths={RULER: Strength(scale=2.0, threshold=0.0, valid_rate=0.625, weak=True)}, refused={GRASS: "V2"})


def piloted(root, *, tree=TREE, kinds=KINDS, **faults):
    return run_pilot(new_studio(root, new_editor(**faults), tree=tree, kinds=kinds), IMAGES)


@pytest.mark.parametrize(("needed", "chosen"), [(0.0, 1.0), (1.0, 1.0), (1.2, 1.5), (2.0, 2.0), (2.5, 3.0)])
def test_the_smallest_strength_that_is_good_enough(tmp_path, needed, chosen):
    """Of each node by itself."""
    pilot = piloted(tmp_path, needs={"ruler": needed})
    assert pilot.strengths == {
        RULER: Strength(scale=chosen, threshold=0.0, valid_rate=1.0),
        GRASS: Strength(scale=1.0, threshold=0.0, valid_rate=1.0),
    }


def test_no_more_is_tried_than_needed(tmp_path):
    """Six images at two strengths of the ruler and one of the grass; null edits once."""
    editor = new_editor(needs={"ruler": 1.5})
    run_pilot(new_studio(tmp_path, editor, tree=TREE), IMAGES)
    assert (editor.nulls, editor.edits) == (6, 18)


@pytest.mark.parametrize(("deaf", "rate"), [(1, 0.833), (2, 0.667), (3, 0.5)])
def test_half_is_weak_and_four_of_five_is_not(tmp_path, deaf, rate):
    pilot = piloted(tmp_path, tree=ALONE, deaf=frozenset(IMAGES[:deaf]))
    assert pilot.strengths[RULER] == Strength(scale=1.0, threshold=0.0, valid_rate=rate, weak=rate < 0.8)


def test_less_than_half_is_refused(tmp_path):
    pilot = piloted(tmp_path, tree=ALONE, deaf=frozenset(IMAGES[:4]))
    assert pilot.strengths == {}
    assert pilot.refused.keys() == {RULER}
    assert "fewer than 50%" in pilot.refused[RULER]


@pytest.mark.parametrize(
    ("faults", "kinds", "check"),
    [
        ({"needs": {"ruler": np.inf}}, KINDS, "V1"),
        ({"blind": True}, KINDS, "V2"),
        ({"drags": {"ruler": "snowman"}}, KINDS | {"snowman": NodeKind.PROTECTED}, "V4"),
    ],
)
def test_a_refusal_names_the_check_that_failed(tmp_path, faults, kinds, check):
    """It stays in the tree, not editable, with the reason; the rest is left as it was."""
    pilot = piloted(tmp_path, tree=ALONE, kinds=kinds, **faults)
    assert pilot.refused[RULER].endswith(f"most failed {check}")
    tree = pilot.applied(ALONE)
    assert (tree.node(RULER).editable, tree.node(RULER).reason) == (False, pilot.refused[RULER])
    assert [node.path for node in tree.nodes] == [node.path for node in ALONE.nodes]
    assert tree.node(BRIGHT.path) == TREE.node(BRIGHT.path)


def test_exact_operators_need_no_trial(tmp_path):
    """But one that would need a mask is refused at once, and without an editor so is every prompt."""
    pilot = run_pilot(new_studio(tmp_path, None, tree=TREE), IMAGES)
    assert BRIGHT.path not in {**pilot.strengths, **pilot.refused}
    assert "needs a mask" in pilot.refused[MASKED.path]
    assert "needs a generator" in pilot.refused[RULER]


def test_a_node_that_no_judge_sees_clearly_is_refused(tmp_path):
    editor = new_editor()
    studio = new_studio(tmp_path, editor, tree=TREE, judge=new_judge(editor, sure={"ruler": 0.5}))
    assert run_pilot(studio, IMAGES).refused[RULER] == "on none of 6 images could a judge say whether it is there"
    assert editor.edits == 6  # the grass


def test_ambiguous_images_do_not_count(tmp_path):
    """Neither for nor against: three clear images of six, one of them not edited, are two thirds."""
    editor = new_editor(deaf=frozenset({"i0"}))
    judge = new_judge(editor, blurred=frozenset(values_of(at) for at in (3, 4, 5)))
    studio = new_studio(tmp_path, editor, tree=TREE, judge=judge)
    assert run_pilot(studio, IMAGES).strengths[RULER].valid_rate == pytest.approx(0.667)


def test_bare_prompts_are_tried_at_the_given_scales(tmp_path):
    """Where images are not described, strengths are those of prompts, and the threshold is moved when none works."""
    shown = values_of(0)
    with_ruler = caption(SCENES, [*shown[:4], 1, *shown[5:]])
    node = Node(path="ruler", name="ruler", prompt_add=with_ruler, threshold=0.5, params={"concept": "ruler", "level": "present"})
    asking = Asking(None, caption(SCENES, shown), readable={"ruler": ("absent", "present")})
    tree = ConceptTree(domain="scenes", nodes=(node,))
    same = {image: replace(source, values=None) for image, source in sources().items()}
    for needed, chosen in ((4.0, 5.0), (8.0, 10.0)):
        studio = new_studio(
            tmp_path, new_editor(needs={"ruler": needed}, fingerprint=str(needed)), tree=tree, asking=asking, sources=same
        )
        found = run_pilot(studio, IMAGES, scales=(3.0, 5.0, 10.0)).strengths["ruler"]
        assert (found.scale, found.threshold) == (chosen, 0.5)


class Copies(SceneEditor):
    """Draws a null edit without being told what the image shows."""

    def null(self, originals, images):
        self.nulls += len(images)
        for one, image in zip(originals, images, strict=True):
            self.made.append((to_uint8(image[None])[0], values_of(self.scenes[one.sha256])))
        return images


def test_images_that_nobody_describes_are_no_trials(tmp_path):
    """Where a caption is needed that cannot be written they count neither for nor against; the reason is told where it is true of all."""
    bare = {image: replace(source, values=None) for image, source in sources().items()}
    editor = Copies(new_editor().scenes)
    some = new_studio(tmp_path, editor, tree=ALONE, sources=sources() | {name: bare[name] for name in IMAGES[:3]})
    assert run_pilot(some, IMAGES).strengths[RULER].valid_rate == 1.0
    assert editor.edits == 3
    none = new_studio(tmp_path, editor, tree=ALONE, sources=bare)
    assert "says of none of 6 images what it shows" in run_pilot(none, IMAGES).refused[RULER]
    ruler, placebo, exact = none.rows([cell(0, RULER), cell(0, "view", placebo=True), cell(0, BRIGHT.path)])
    assert (ruler.reasons, placebo.reasons, exact.valid) == ((UNDESCRIBED,), (UNDESCRIBED,), True)
    assert editor.edits == 3


def test_a_limit_ends_the_pilot(tmp_path):
    """It names the limit and leaves what it made: the next one goes on from there, and only a whole one is kept."""
    asked, editor = [], new_editor()
    studio = new_studio(tmp_path, editor, tree=TREE)

    def limit(edits):
        asked.append(edits)
        return "network_rows" if len(asked) > 1 else ""

    cut = run_pilot(studio, IMAGES, limit=limit)
    assert (cut.stopped, set(cut.strengths), asked) == ("network_rows", {GRASS}, [6, 6])
    spent = editor.rows_spent()
    whole = run_pilot(studio, IMAGES)
    assert whole.stopped == ""
    assert set(whole.strengths) == {RULER, GRASS}
    assert editor.rows_spent() == spent + 6


def test_other_captions_are_another_pilot(tmp_path):
    """The tree may be the same: a template, or what is said of an image that nobody describes, decides what is asked for."""
    keys = {
        pilot_key(new_studio(tmp_path, new_editor(), tree=TREE, asking=asking), (1.0,))
        for asking in (
            Asking(SCENES),
            Asking(replace(SCENES, template=f"{SCENES.template} indeed")),
            Asking(SCENES, "a drawing"),
            Asking(SCENES, readable={"ruler": ("absent", "present")}),
            Asking(None),
        )
    }
    assert len(keys) == 5
    roles = replace(SCENES, placebo_words=("thing",))
    assert pilot_key(new_studio(tmp_path, new_editor(), tree=TREE, asking=Asking(roles)), (1.0,)) in keys


def test_progress_is_told_by_node(tmp_path):
    told = []
    run_pilot(new_studio(tmp_path, new_editor(), tree=TREE), IMAGES, progress=lambda *news: told.append(news))
    assert [news[:2] for news in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_lock_file_is_used_again(tmp_path):
    """Under its own key only."""
    path = tmp_path / "lock.json"
    assert known_pilot(path, "k") is None
    keep_pilot(path, FOUND)
    assert known_pilot(path, "k") == FOUND
    assert known_pilot(path, "other") is None
    assert [file.name for file in tmp_path.iterdir()] == ["lock.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"key": "k"}',
        '{"key": "k", "strengths": [], "refused": {}}',
        '{"key": "k", "strengths": {"a": 3}, "refused": {}}',
        '{"key": "k", "strengths": {"a": {"scale": 1}}, "refused": {}}',
        '{"key": "k", "strengths": {"a": {"scale": "high", "threshold": 0}}, "refused": {}}',
        '{"key": "k", "strengths": {}, "refused": []}',
        '{"key": "k", "strengths": {}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_lock_file_is_none(tmp_path, text):
    path = tmp_path / "lock.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert known_pilot(path, "k") is None


def test_a_lock_file_is_written_whole(tmp_path, monkeypatch):
    """A full disk leaves the old one, and says which file."""
    path = tmp_path / "lock.json"
    keep_pilot(path, FOUND)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        with pytest.raises(BankError, match=r"lock\.json cannot be written.*free space"):
            keep_pilot(path, replace(FOUND, key="new"))
    assert known_pilot(path, "k") == FOUND


def test_the_key_is_of_tree_editor_judge_and_scales(tmp_path):
    """Not of who was audited with it: it does not know."""
    studio = new_studio(tmp_path, new_editor(), tree=TREE)
    other_judge = new_judge(new_editor(), fingerprint="another")
    keys = [
        pilot_key(studio, CAPTION_SCALES),
        pilot_key(studio, (1.0,)),
        pilot_key(new_studio(tmp_path, new_editor(fingerprint="another"), tree=TREE), CAPTION_SCALES),
        pilot_key(new_studio(tmp_path, new_editor(), tree=replace(TREE, domain="other")), CAPTION_SCALES),
        pilot_key(replace(studio, detector=other_judge), CAPTION_SCALES),
        pilot_key(
            replace(studio, judging=replace(studio.judging, limits=replace(studio.judging.limits, gain=0.3))), CAPTION_SCALES
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert pilot_key(new_studio(tmp_path / "b", new_editor(), tree=TREE), CAPTION_SCALES) == keys[0]


def test_strengths_are_those_that_are_used(tmp_path):
    """A studio that is settled edits as strongly as its pilot found, and costs nothing for pilot images."""
    editor = new_editor(needs={"ruler": 1.2})
    studio = new_studio(tmp_path, editor, tree=TREE)
    pilot = run_pilot(studio, IMAGES)
    spent = editor.rows_spent()
    rows = studio.settled(pilot.applied(TREE), pilot.strengths).rows([cell(at, RULER) for at in range(6)])
    assert {(row.scale, row.valid) for row in rows} == {(1.5, True)}
    assert editor.rows_spent() == spent
