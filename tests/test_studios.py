"""From a configuration to a studio of edits, with an editor that draws scenes."""

import json
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import yaml

from audit_plugin.bank.drafts import Strength
from audit_plugin.bank.real import index_real
from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.config import load
from audit_plugin.core.editing import EditAsk, Original
from audit_plugin.core.edits import EditCell
from audit_plugin.core.errors import StorageFullError
from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.core.values import Row
from audit_plugin.demo.renderer import SCENES
from audit_plugin.sources.folder import open_folder
from audit_plugin.studios import (
    LOCK_NAME,
    PipelineEditor,
    audited_tree,
    concept_kinds,
    known_editor,
    open_studio,
    plain_studio,
    sources_of,
)
from engines.pipeline import load_pipeline
from tests.bank.edit_world import GRASS, RULER, SceneEditor, new_judge
from tests.bank.world import silent
from tests.end_to_end.site import TRUTH, make_site
from tests.engines.pipelines import miniatures
from tests.perception.image_text_world import colour_model

CLASSES = ("negative", "positive")
OWN = {
    "schema": "concept-tree/1",
    "domain": "scenes",
    "nodes": [
        {"id": "glare", "kind": "nuisance", "prompt_add": "with glare", "vlm_question": "Is there glare?"},
        {"id": "background", "kind": "context", "editable": False},
        {"id": "night", "parent": "background", "kind": "context", "prompt_add": "at night", "vlm_question": "Is it night?"},
    ],
}


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path / "site", 6, diffex={"default": False})


def tree(site, *, generative=True, **diffex):
    loaded = load(site.change(diffex=diffex).config, {})
    return audited_tree(loaded, CLASSES, generative=generative)


def paths(nodes, **wanted):
    return [node.path for node in nodes if all(getattr(node, key) == value for key, value in wanted.items())]


CONCEPT_NODES = {
    *("shape", "shape/circle", "shape/square", "shape/triangle"),
    *("background", GRASS, "background/water", "background/sand", "background/brick"),
    *("ruler", RULER),
}


def test_configured_concepts_are_nodes(site):
    """With their roles as kinds."""
    found = tree(site)
    assert {node.path for node in found.nodes} == CONCEPT_NODES
    assert found.domain == "end-to-end"
    assert (found.node(RULER).kind, found.node("shape/circle").kind) == (NodeKind.ARTEFACT, NodeKind.CORE)


def test_concepts_need_an_editor_and_the_switch(site):
    assert tree(site, generative=False).nodes == ()
    assert tree(site, concepts=False).nodes == ()


def test_of_the_default_tree_only_exact_nodes_are_asked(site):
    """With an editor or without; containers come along, and everything below one has it."""
    without = tree(site, generative=False, default=True)
    assert {node.operator for node in without.editable} == {"deterministic"}
    assert len(without.editable) > 20
    assert {node.parent for node in without.nodes} - {""} <= {node.path for node in without.nodes}
    with_editor = tree(site, default=True)
    assert {node.path for node in with_editor.nodes} == CONCEPT_NODES | {node.path for node in without.nodes}


@pytest.mark.parametrize("generative", [True, False])
def test_a_tree_of_ones_own_stays_whole(site, generative):
    """Its generative nodes too, to be reported as untestable; the rest is added where it has no such path."""
    (site.folder / "tree.yaml").write_text(yaml.safe_dump(OWN))
    found = tree(site, generative=generative, tree="tree.yaml", default=True, domain="elsewhere")
    assert found.domain == "scenes"
    assert {"glare", "background", "background/night"} <= {node.path for node in found.nodes}
    assert found.node("background").kind is NodeKind.CONTEXT
    assert (GRASS in paths(found.nodes)) is generative
    seen = {""}
    for node in found.nodes:
        assert node.parent in seen, node.path
        seen.add(node.path)


def test_a_tree_of_ones_own_alone(site):
    (site.folder / "tree.yaml").write_text(yaml.safe_dump(OWN))
    assert paths(tree(site, tree="tree.yaml", concepts=False).nodes) == ["glare", "background", "background/night"]


def test_the_domain_is_told_where_the_tree_says_none(site):
    (site.folder / "tree.csv").write_text("parent,name,kind,prompt_add\n,light,nuisance,in bright light\n")
    assert tree(site, tree="tree.csv", concepts=False, domain="desks").domain == "desks"


ORIGINAL = Original(image="i0", sha256="s", seed=1, caption=caption(SCENES, (0,) * 7))
PIXELS = np.zeros((1, 3, 64, 64), np.float32)


def told_editor(opened):
    opened.append(1)
    return SceneEditor({"s": 0}, name="told", fingerprint="f1")


def test_a_known_editor_is_not_loaded(tmp_path):
    """The second time its name and fingerprint are read; it is opened when something must be drawn, once."""
    note, opened = tmp_path / "bank" / "editor.json", []
    first = known_editor(note, "settings", partial(told_editor, opened))
    second = known_editor(note, "settings", partial(told_editor, opened))
    assert (second.name, second.fingerprint, second.rows_spent()) == (first.name, first.fingerprint, 0)
    assert len(opened) == 1
    np.testing.assert_array_equal(second.null([ORIGINAL], PIXELS), second.null([ORIGINAL], PIXELS))
    assert (second.rows_spent(), len(opened)) == (2, 2)


@pytest.mark.parametrize("note", ["", "{", "[]", "null", "{}", '{"settings": "settings"}', '{"settings": "settings", "name": "x"}'])
def test_a_damaged_note_is_no_note(tmp_path, note):
    """The editor is loaded, and remembered anew."""
    path, opened = tmp_path / "editor.json", []
    path.write_text(note)
    assert known_editor(path, "settings", partial(told_editor, opened)).fingerprint == "f1"
    assert len(opened) == 1
    assert json.loads(path.read_text()) == {"settings": "settings", "name": "told", "fingerprint": "f1"}


def test_other_settings_are_another_editor(tmp_path):
    opened = []
    for settings in ("first", "second", "second", "first"):
        known_editor(tmp_path / "editor.json", settings, partial(told_editor, opened))
    assert len(opened) == 3


def test_a_full_disk_under_the_note_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(StorageFullError, match=r"editor\.json"):
        known_editor(tmp_path / "editor.json", "settings", partial(told_editor, []))


def studio_of(site, *, edits=True):
    """The studio of the site, and the editor that was given to it."""
    loaded = load(site.config, {})
    rows = open_folder(loaded.config.source, loaded.document.columns).rows
    shas = dict(index_real(rows, progress=silent).by_row)
    editor = SceneEditor({shas[row.id]: int(row.image.rpartition("/")[2].removesuffix(".png")) for row in rows})
    studio = open_studio(
        loaded,
        sources_of(rows, shas, described=True),
        CLASSES,
        editor=editor if edits else None,
        size=64 if edits else None,
        detector=new_judge(editor),
        progress=silent,
    )
    return studio, editor


def test_strengths_are_found_once(site):
    """A pilot on the images of the audit; the next studio reads its lock file and edits nothing."""
    first, editor = studio_of(site)
    assert editor.edits > 0
    assert first.drafting.strengths[RULER] == Strength(scale=1.0, threshold=0.0, valid_rate=1.0)
    assert (site.folder / "bank" / LOCK_NAME).is_file()
    second, fresh = studio_of(site)
    assert fresh.rows_spent() == 0
    assert (second.drafting.strengths, second.tree) == (first.drafting.strengths, first.tree)


def test_another_question_has_a_pilot_of_its_own(site):
    """What was made for the first is not made again."""
    studio_of(site)
    _, editor = studio_of(site.change(diffex={"validity": {"gain": 0.3}}))
    assert editor.rows_spent() == 0
    assert json.loads((site.folder / "bank" / LOCK_NAME).read_text())["strengths"]


def test_a_damaged_lock_is_made_anew(site):
    first, _ = studio_of(site)
    (site.folder / "bank" / LOCK_NAME).write_text("{")
    assert studio_of(site)[0].drafting.strengths == first.drafting.strengths


def test_few_pilot_images_cost_little(site):
    """As many as are configured, drawn by the audit's name."""
    _, editor = studio_of(site.change(diffex={"pilot_images": 2}))
    assert editor.nulls == 2


def test_a_studio_edits_what_its_source_shows(site):
    """From the files themselves, by their captions."""
    studio, _ = studio_of(site)
    image = min(studio.sources)
    (row,) = studio.rows([EditCell(image=image, nodes=(RULER,))])
    assert (row.valid, row.scale, row.class_kept) == (True, 1.0, True)
    assert row.after_sha256 != row.before_sha256


def test_without_an_editor_no_strength_is_looked_for(site):
    studio, editor = studio_of(site.change(diffex={"default": True, "concepts": True}), edits=False)
    assert editor.rows_spent() == 0
    assert studio.drafting.strengths == {}
    assert {node.operator for node in studio.tree.editable} == {"deterministic"}
    image, node = min(studio.sources), studio.tree.editable[0]
    assert studio.rows([EditCell(image=image, nodes=(node.path,))])[0].valid


def test_what_a_user_wants_and_nobody_can_edit_is_told(site):
    """A prompt that no detector reads stays in the tree, with the reason."""
    (site.folder / "tree.yaml").write_text(yaml.safe_dump(OWN))
    studio, _ = studio_of(site.change(diffex={"tree": "tree.yaml", "concepts": False}))
    assert not studio.tree.node("glare").editable
    assert "no independent judge" in studio.tree.node("glare").reason


def test_configured_judges_sit_on_the_panel(site):
    """Sentences make a node testable that no detector reads; paths are relative to the file; results name who judges."""
    colour_model(site.folder / "judge")
    glare = OWN["nodes"][0] | {"present": ["red"], "absent": ["blue"]}
    (site.folder / "tree.yaml").write_text(yaml.safe_dump(OWN | {"nodes": [glare, *OWN["nodes"][1:]]}))
    changed = site.change(diffex={"tree": "tree.yaml", "concepts": False, "judge": {"path": "judge", "class_text": "red {class}"}})
    loaded = load(changed.config, {})
    editor = SceneEditor({})
    parts = {"editor": editor, "size": 64, "detector": None, "progress": silent}
    studio = plain_studio(loaded, [], CLASSES, **parts, tasks=[("a", "b"), ("c", "d_e")])
    prompts = studio.panel.sentences.prompts
    assert prompts["classes:1"] == (("red c",), ("red d e",))
    assert prompts["sentences:glare"] == (("blue",), ("red",))
    refusals = {path: studio.drafting.refusal(studio.tree.node(path)) for path in ("glare", "background/night")}
    assert refusals["glare"] == ""
    assert "no independent judge" in refusals["background/night"]
    assert (studio.checks["V1"], studio.checks["V6"]) == ("image-text model", "not checked")
    asked = site.change(diffex={"tree": "tree.yaml", "vision": {"endpoint": "http://127.0.0.1:9", "model": "m"}})
    spoken = plain_studio(load(asked.config, {}), [], CLASSES, **parts)
    assert spoken.drafting.refusal(spoken.tree.node("background/night")) == ""


def test_kinds_are_the_roles():
    assert concept_kinds(ConceptSet(concepts=TRUTH)) == {
        "shape": NodeKind.CORE,
        "background": NodeKind.NUISANCE,
        "ruler": NodeKind.ARTEFACT,
    }
    assert concept_kinds(None) == {}


def test_rows_without_an_image_are_no_sources():
    rows = [Row(id="a", values=(0,), image="a.png", rest="r"), Row(id="b", values=(0,))]
    (described,) = sources_of(rows, {"a": "sha"}, described=True)
    (bare,) = sources_of(rows, {"a": "sha"}, described=False)
    assert (described.image, described.sha256, described.values, described.rest) == ("a", "sha", (0,), "r")
    assert bare.values is None


def test_images_are_inverted_once_for_all_runs(tmp_path):
    """A second run inverts what it has not met, and edits by what lies on disk have the bits of those by what is in memory."""
    pipeline = load_pipeline(miniatures.save(miniatures.stable_diffusion, tmp_path / "generator"), backend="torch", batch=4)
    pictures = np.random.default_rng(0).random((3, *pipeline.image_shape), np.float32)
    ruler = Node(path="ruler", name="ruler")
    asks = [[EditAsk(node=ruler, target="a ruler", scale=5.0, threshold=0.0)]] * 3
    originals = [Original(image=f"i{at}", sha256=f"s{at}", seed=at) for at in range(3)]

    def editor(shelf):
        return PipelineEditor(lambda: nullcontext(pipeline), 1, "sde20", 0.15, nullcontext, shelf=shelf, shelf_bytes=10**9)

    plain = editor(None)
    plain.null(originals[:2], pictures[:2])  # what is inverted together has the same bits only together
    wanted = plain.edit(originals, pictures, asks)
    alone = plain.rows_spent()
    first, second = editor(tmp_path / "shelf"), editor(tmp_path / "shelf")
    first.null(originals[:2], pictures[:2])
    assert first.rows_spent() == 2 * 20
    made = second.edit(originals, pictures, asks)
    assert second.rows_spent() == alone - 2 * 20
    np.testing.assert_array_equal(made.images, wanted.images)
    assert len(list((tmp_path / "shelf").iterdir())) == 3


def test_an_image_that_is_edited_twice_at_once_is_inverted_once(tmp_path):
    pipeline = load_pipeline(miniatures.save(miniatures.stable_diffusion, tmp_path / "generator"), backend="torch", batch=4)
    editor = PipelineEditor(lambda: nullcontext(pipeline), 1, "sde20", 0.15, nullcontext)
    one = Original(image="i", sha256="s", seed=1)
    images = editor.null([one, one], np.repeat(np.random.default_rng(0).random((1, *pipeline.image_shape), np.float32), 2, 0))
    np.testing.assert_array_equal(images[0], images[1])
    assert editor.rows_spent() == 20
