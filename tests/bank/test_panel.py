"""Judges beside the detector: what an image-text model, a safety filter, a vision model and a perceptual network make of true and false edits."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from audit_plugin.bank.asks import Asking
from audit_plugin.bank.drafts import Drafting, EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.judging import Judging
from audit_plugin.bank.panel import Panel
from audit_plugin.bank.pilot import pilot_key
from audit_plugin.bank.studio import Studio
from audit_plugin.core.editing import EditedImages
from audit_plugin.core.edits import Direction, EditCell
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.perception.edit_checks import Validity
from audit_plugin.perception.image_text import REALISM, ImageTextJudge, prompts_of
from audit_plugin.perception.image_text_models import open_image_text
from audit_plugin.perception.safety import SAFETY
from tests.perception.image_text_world import colour_model

RED = Node(path="tint/red", name="red", prompt_add="red", present=("red",), absent=("blue",), threshold=0.4)
SPOKEN = replace(RED, present=(), absent=(), question="Is it red?")
SHADES = {"red": (0.8, 0.1, 0.2), "blue": (0.2, 0.1, 0.8)}
IMAGES = ("red", "blue")


def picture(shade, side=32):
    """A grained picture of one colour, 8-bit."""
    grain = np.random.default_rng(0).integers(-8, 9, (side, side, 1))
    return np.clip(np.rint(255 * np.array(shade)) + grain, 0, 255).astype(np.uint8)


@dataclass(eq=False)
class Painter:
    """Paints what it is told, red or not; a deaf one paints the image again.  Implements :class:`audit_plugin.core.editing.Editor`."""

    deaf: bool = False
    dims: float = 1.0
    name: str = "painter"
    edits: int = 0

    @property
    def fingerprint(self):
        return f"painter {self.deaf} {self.dims}"

    def refusal(self, _node):
        return ""

    def rows_spent(self):
        return self.edits

    def null(self, originals, images):
        return images

    def edit(self, originals, images, asks):
        self.edits += len(images)
        turned = images if self.deaf else images[:, ::-1]
        return EditedImages(np.ascontiguousarray(turned * self.dims, np.float32))


@dataclass(eq=False)
class Vision:
    """Answers by the mean colour; implements :class:`audit_plugin.bank.panel.Answerer`."""

    lies: bool = False
    silent: bool = False
    fingerprint: str = "vision"
    asked: list = field(default_factory=list)

    def yes(self, question, pictures):
        self.asked += [(question, digest(one.tobytes().hex())) for one in pictures]
        told = [bool(one[..., 0].mean() > one[..., 2].mean()) for one in pictures]
        return [None if self.silent else True if self.lies else one for one in told]


@dataclass(eq=False)
class Filter:
    """Takes dark pictures for unsafe."""

    fingerprint: str = "filter"

    def read(self, images):
        unsafe = (images.mean((1, 2, 3)) < 0.3).astype(float)
        return {SAFETY: np.stack([1 - unsafe, unsafe], 1)}


@dataclass(eq=False)
class Photos:
    """Takes bright pictures for good photos."""

    fingerprint: str = "photos"

    def read(self, images):
        good = np.clip(2 * images.mean((1, 2, 3)), 0, 1)
        return {REALISM: np.stack([1 - good, good], 1)}


@dataclass(eq=False)
class Far:
    """Every two pictures are as far apart as it says."""

    distance: float
    name: str = "LPIPS(test)"
    asked: int = 0

    @property
    def fingerprint(self):
        return f"far {self.distance}"

    def between(self, first, second):
        self.asked += len(first)
        return np.full(len(first), self.distance)


def studio(root, *nodes, editor=None, words=True, tasks=(), **panel):
    tree = ConceptTree(domain="colours", nodes=nodes or (RED,))
    if words:
        model = open_image_text(colour_model(root / "model"))
        panel["sentences"] = ImageTextJudge(model, prompts_of(tree, tasks, "{class}", {}))
    judges = Panel(**panel)
    asking = Asking(sentences=words, questions=judges.questions is not None)
    protected = tuple(node for node in tree.nodes if node.kind is NodeKind.PROTECTED)
    sources = {
        name: EditSource(image=name, sha256=digest("picture", name), load=lambda name=name: picture(SHADES[name]))
        for name in IMAGES
    }
    return Studio(
        drafting=Drafting(audit="a", tree=tree, sources=sources, editor=editor or Painter(), size=32, asking=asking, judged=False),
        judging=Judging(
            asking=asking, protected=protected, perceptual=judges.perceptual is not None, limits=Validity(distance_global=1)
        ),
        store=edit_store(root / "bank"),
        detector=None,
        panel=judges,
        quality=lambda images: [""] * len(images),
    )


def rows(made, path="tint/red"):
    """One row per image."""
    return made.rows([EditCell(image=name, nodes=(path,)) for name in IMAGES])


def test_sentences_alone_tell_a_true_edit_from_a_false_one(tmp_path):
    """What is there is removed, what is not is added; an editor that does nothing fails V1."""
    true, false = rows(studio(tmp_path / "a")), rows(studio(tmp_path / "b", editor=Painter(deaf=True)))
    assert [(row.direction, row.valid, row.reasons) for row in true] == [(Direction.REMOVE, True, ()), (Direction.ADD, True, ())]
    assert [row.reasons for row in false] == [("V1",), ("V1",)]
    assert true[1].verifier_before < 0.01
    assert true[1].verifier_after > 0.99


def test_without_any_judge_a_node_with_sentences_is_untestable(tmp_path):
    (row, _) = rows(studio(tmp_path, words=False))
    assert "no independent judge" in row.reasons[0]


@pytest.mark.parametrize(("kind", "reasons"), [(NodeKind.NUISANCE, ()), (NodeKind.PROTECTED, ("V1",))])
def test_one_judge_is_enough_except_for_protected_attributes(tmp_path, kind, reasons):
    """A vision model that always says yes agrees with the sentences about the red picture, and never that red went away."""
    node = replace(RED, kind=kind, question="Is it red?")
    assert rows(studio(tmp_path, node, questions=Vision(lies=True)))[0].reasons == reasons


def test_judges_that_disagree_about_a_protected_attribute_leave_it_alone(tmp_path):
    """The blue picture is red to the vision model."""
    node = replace(RED, kind=NodeKind.PROTECTED, question="Is it red?")
    assert rows(studio(tmp_path, node, questions=Vision(lies=True)))[1].reasons == ("ambiguous",)


def test_a_question_alone_can_judge(tmp_path):
    """Each picture is asked about once (the red one turned blue is the blue one); what is not answered is ambiguous and asked again."""
    vision = Vision()
    made = studio(tmp_path, SPOKEN, words=False, questions=vision)
    assert [row.reasons for row in rows(made)] == [(), ()]
    assert len(vision.asked) == len(set(vision.asked)) == 2
    rows(made)
    assert len(vision.asked) == 2
    silent = Vision(silent=True, fingerprint="silent")
    mute = studio(tmp_path, SPOKEN, words=False, questions=silent)
    assert {row.reasons for row in [*rows(mute), *rows(mute)]} == {("ambiguous",)}
    assert len(silent.asked) == 4


def test_v3_by_sentences_only_where_no_detector_reads_the_class(tmp_path):
    """To the sentences red and blue are classes: turning one into the other loses the class, and is valid all the same."""
    turned = rows(studio(tmp_path / "a", tasks=[("red", "blue")]))
    assert [(row.valid, row.class_kept) for row in turned] == [(True, False)] * 2
    assert all(row.class_kept for row in rows(studio(tmp_path / "b", tasks=[("red", "blue")], editor=Painter(deaf=True))))
    assert all(row.class_kept for row in rows(studio(tmp_path / "c", replace(RED, kind=NodeKind.CORE), tasks=[("red", "blue")])))


@pytest.mark.parametrize(("group", "reasons"), [("", ("V4",)), ("tint", ())])
def test_v4_by_sentences_spares_what_excludes_the_edited_node(tmp_path, group, reasons):
    other = Node(path="skin", name="skin", kind=NodeKind.PROTECTED, group=group, present=("blue",), absent=("red",))
    assert {row.reasons for row in rows(studio(tmp_path, RED, other))} == {reasons}


@pytest.mark.parametrize(("dims", "reasons"), [(0.9, ()), (0.5, ("V5",))])
def test_v5_is_failed_by_what_is_less_of_a_photo(tmp_path, dims, reasons):
    """To this judge bright photos are good ones: an edit that dims a little is let pass, one that dims much is not."""
    made = studio(tmp_path, SPOKEN, words=False, editor=Painter(dims=dims), questions=Vision(), sentences=Photos())
    assert {row.reasons for row in rows(made)} == {reasons}


def test_v6_is_the_safety_filters(tmp_path):
    assert {row.reasons for row in rows(studio(tmp_path / "a", editor=Painter(dims=0.6), safety=Filter()))} == {("V6",)}
    assert {row.reasons for row in rows(studio(tmp_path / "b", safety=Filter()))} == {()}


@pytest.mark.parametrize(
    ("threshold", "distance", "reasons"), [(0.75, 0.34, ()), (0.75, 0.36, ("V2",)), (0.4, 0.59, ()), (0.4, 0.61, ("V2",))]
)
def test_v2_by_a_network_has_limits_of_its_own(tmp_path, threshold, distance, reasons):
    """Those of LPIPS: 0.35 for local nodes, 0.6 for global ones; each pair is measured once."""
    far = Far(distance)
    made = studio(tmp_path, replace(RED, threshold=threshold), perceptual=far)
    assert {(row.reasons, row.distance) for row in [*rows(made), *rows(made)]} == {(reasons, distance)}
    assert far.asked == 2


def test_results_name_who_checked(tmp_path):
    """LPIPS is named only where it was used, and a check that nobody made is said to be none."""
    full = studio(tmp_path, questions=Vision(), safety=Filter(), perceptual=Far(0.1)).checks
    assert full == {
        "V1": "image-text model and vision model",
        "V2": "LPIPS(test)",
        "V3": "image-text model",
        "V4": "image-text model",
        "V5": "picture quality and image-text model",
        "V6": "safety filter",
    }
    bare = Panel().checks(detector=True)
    assert (bare["V2"], bare["V3"], bare["V6"]) == ("structural dissimilarity", "detector", "not checked")


def test_another_judge_is_another_pilot(tmp_path):
    made = studio(tmp_path)
    others = [
        replace(made, panel=replace(made.panel, **more))
        for more in ({"safety": Filter()}, {"perceptual": Far(0.1)}, {"sentences": None})
    ]
    assert len({pilot_key(one, (1.0,)) for one in (made, *others)}) == 4
