"""Slices of the case studies on leaves and radiographs; each is left out where its data are not there."""

import csv
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
import yaml

from audit_plugin.concepts.operators_frame import mirror_border
from audit_plugin.concepts.tree_io import read_tree
from audit_plugin.config import parse
from audit_plugin.sources.images import read_images
from tests.bench import case_leaves, case_leaves_edits, case_xray, case_xray_models
from tests.bench.case_charts import Group, Mark, write_chart
from tests.fixtures.digits import DATA

LEAVES, XRAY = DATA / "plantvillage-leaves", DATA / "pneumonia-xray-28"
leaves_needed = pytest.mark.skipif(not (LEAVES / "masks.zip").is_file(), reason=f"optional data: {LEAVES} is not there")
xray_needed = pytest.mark.skipif(not (XRAY / "pneumonia_xray_28.npz").is_file(), reason=f"optional data: {XRAY} is not there")


@leaves_needed
def test_an_edit_of_the_background_leaves_the_leaf_alone():
    """Whatever is put around it; and an edit and its control differ in nothing but what is around it."""
    some = case_leaves_edits.read_leaves(LEAVES, split="test", every=36)
    made = case_leaves_edits.edits(some)
    for name in set(made) - {"leaf removed", "resized to 64 px"}:
        np.testing.assert_array_equal(made[name][some.masks], some.pixels[some.masks], err_msg=name)
    assert (made["black"][~some.masks] == 0).all()
    assert all(edit in made and control in made for edit, control in case_leaves_edits.CONTRASTS.values())


@leaves_needed
def test_backgrounds_come_from_the_site_that_is_asked_for():
    found = case_leaves_edits.Leaves(case_leaves_edits.read_rows(LEAVES, split="train"), np.empty(0), np.empty(0))
    site = np.array([case_leaves_edits.SITES.index(row["site"]) for row in found.rows])
    cut = found.where(black_background="1")
    assert cut.sum() == 36
    for same in (True, False):
        chosen = case_leaves_edits.donors(found, site, cut, same=same)
        assert ((site[chosen] == site) == same).all()
        assert not cut[chosen].any()
        assert (chosen != np.arange(len(chosen))).all()


@leaves_needed
def test_black_backgrounds_are_late_blights_alone():
    report = case_leaves.Report(name="x", question="")
    case_leaves.associate(LEAVES, report)
    ((both, *_),) = report.tables.values()
    assert (both["late blight"], both["healthy"]) == ("36 of 480", "0 of 480")
    assert both["difference low"] > 0.04


@xray_needed
def test_the_planted_network_sees_the_border_alone():
    """A network that sees the border alone; nothing inside moves it, and another border does."""
    test = case_xray_models.read_split(XRAY, "test")
    test = case_xray_models.Radiographs(test.pixels[::20], test.labels[::20])
    torch.manual_seed(0)  # nothing is learnt here, and some first weights hardly see anything
    border = case_xray_models.Network(case_xray_models.frame_mask()).eval()
    mirrored = np.stack([mirror_border(one[..., None].repeat(3, 2), width_px=24)[..., 0] for one in test.pixels])
    inside = test.pixels.copy()
    inside[:, 3:-3, 3:-3] = 0
    ask = case_xray_models.local(border)
    np.testing.assert_allclose(ask(inside), ask(test.pixels), atol=1e-6)
    assert np.abs(ask(mirrored) - ask(test.pixels)).max() > 1e-4


@xray_needed
def test_swapped_borders_leave_the_inside_alone_and_come_from_the_class_that_is_asked_for():
    test = case_xray_models.read_split(XRAY, "test")
    few = case_xray_models.Radiographs(test.pixels[:40], test.labels[:40])
    frame = case_xray_models.frame_mask()
    for other in (True, False):
        made = case_xray_models.swapped(few, other=other, draws=2)
        np.testing.assert_array_equal(made[:, :, ~frame], np.repeat(few.pixels[None][:, :, ~frame], 2, 0))
        for at in range(len(few.labels)):
            donor = next(k for k in range(40) if (few.pixels[k][frame] == made[0, at][frame]).all())
            assert (few.labels[donor] != few.labels[at]) == other


@xray_needed
def test_audited_borders_do_not_coincide_with_the_class(tmp_path):
    """Else nothing could separate the two; of every image there are two pictures that differ in the border alone."""
    case_xray.write_borders(case_xray_models.read_split(XRAY, "test"), tmp_path, each=40)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    audited = [row for row in rows if row["audited"] == "1"]
    assert (len(rows), len(audited), len({row["image"] for row in audited})) == (160, 80, 80)
    assert 0.6 < np.mean([row["border"] == row["finding"] for row in audited]) < 0.95
    one, two = (read_images([f"zip://{row['file']}::{tmp_path / 'images.zip'}"], 28)[0, 0] for row in rows[:2])
    frame = case_xray_models.frame_mask()
    np.testing.assert_array_equal(one[~frame], two[~frame])
    assert (one[frame] != two[frame]).any()


@xray_needed
def test_eight_border_pixels_give_the_label_away():
    learnt, judged = (case_xray_models.read_split(XRAY, name) for name in ("train", "val"))
    assert case_xray.pixels_alone(learnt, {"val": judged})["eight_border_pixels_balanced_accuracy_val"] > 0.75


def test_the_configurations_are_what_a_user_could_write(tmp_path):
    """They are read without data; the tree has doses, and every node is exact."""
    loaded = parse(case_xray.document("127.0.0.1:1", images=20), tmp_path)
    assert [model.target.model for model in loaded.models] == [f"xray_{kind}" for kind in case_xray_models.KINDS]
    swapped = parse(case_xray.border_document("127.0.0.1:1"), tmp_path)
    assert swapped.document.concept_set.concepts[0].role.alerts
    tree = read_tree(case_xray.TREE)
    assert {node.operator for node in tree.editable} == {"deterministic"}
    recipe = yaml.safe_load((case_leaves.ROOT / "docs" / "leaves.yaml").read_text())["generator"]["train"]["recipe"]
    assert all(set(other) <= {*recipe, "autoencoder_batch", "diffusion_batch", "ema_decay"} for other in case_leaves.SIZES.values())


def test_a_chart_is_a_picture_that_escapes_what_it_is_told(tmp_path):
    marks = (
        Mark(name="a & <b>", value=-0.2, low=-0.4, high=0.1, truth=0.3),
        Mark(name="c", value=0.0, low=0.0, high=0.0, series=1),
    )
    tree = ET.fromstring(
        write_chart(tmp_path / "x.svg", "T", "axis", [Group(heading="H", marks=marks)], ["one", "two"]).read_text()
    )
    texts = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & <b>", "T", "axis", "H", "one", "two", "-0.20", "+0.00"} <= set(texts)
