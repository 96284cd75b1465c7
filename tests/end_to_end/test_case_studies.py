"""Slices of the case studies on published data; each is left out where its data are not there."""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from audit_plugin.bank.pictured_generator import PicturesOptions, pictured_generator
from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.config import parse
from audit_plugin.core.values import Arm
from audit_plugin.sources.folder import open_folder
from audit_plugin.sources.images import read_images
from audit_plugin.statistics.intervals import wilson
from tests.bench import case_cue_conflict, case_digits, case_people
from tests.bench.case_people_models import features_of, fitted, write_classifier
from tests.bench.case_studies import Bar, chart, write_table
from tests.fixtures.digits import DATA


def needs(module):
    """Skips, and says what is missing."""
    missing = [name for name in module.NEEDS if not (DATA / name).is_dir()]
    return pytest.mark.skipif(bool(missing), reason=f"optional data: AUDIT_PLUGIN_DATA has no {', '.join(missing)}")


@needs(case_cue_conflict)
def test_pictures_of_conflicting_cues_are_probes_of_each_other(tmp_path):
    """Three classes: every flip is another published picture, and nothing asks for a cat with a cat's texture, which nobody made."""
    some = {"cat", "car", "clock", "boat", "bird", "bear"}
    rows = [row for row in case_cue_conflict.conflicts(DATA) if {row["shape"], row["texture"]} <= some]
    write_table(tmp_path / "table.csv", rows)
    loaded = parse(case_cue_conflict.configuration(DATA, rows) | {"server": {"url": "127.0.0.1:1"}}, tmp_path)
    source = open_folder(loaded.config.source, loaded.document.columns)
    concepts = loaded.document.concept_set
    made = pictured_generator(
        source.rows, concepts, source.rows, audit="cue", options=PicturesOptions(size=32), replicates=1, identity=source.digest
    )
    whole = plan(source.rows, concepts, generator=made.fingerprint, audit="cue", options=PlanOptions(), drawable=made.shows)
    made.check(whole)
    assert whole.cells[Arm.FLIP] >= 2 * len(rows)
    assert made.generate([whole.probes[0].recipe.caption], [whole.probes[0].recipe.seed]).shape == (1, 3, 32, 32)


@needs(case_cue_conflict)
def test_sixteen_classes_are_merged_from_all_that_belong_to_them():
    """Of MobileNet one further along than of SqueezeNet, because its first class is the background."""
    first, second = case_cue_conflict.merged(DATA), case_cue_conflict.merged(DATA, first=1)
    assert len(first) == 16
    assert first["airplane"] == [404]
    assert second["airplane"] == [405]
    assert len({index for indices in first.values() for index in indices}) == sum(map(len, first.values()))


@needs(case_people)
def test_a_classifier_of_drawings_is_the_file_that_was_fitted(tmp_path):
    """The served file answers what the regression does; what it was taught it knows."""
    onnxruntime = pytest.importorskip("onnxruntime")
    rows = [row for row in case_people.taught(case_people.people(DATA), "planted") if row["role"] in case_people.TAUGHT[:4]]
    images = read_images([f"zip://{row['file']}::{DATA / 'noto-emoji-people' / 'images.zip'}" for row in rows], 128)
    features, woman = features_of(DATA, images), np.array([row["gender"] == "woman" for row in rows])
    weights, bias = fitted(features, woman)
    said = features @ weights + bias
    assert ((said > 0) == woman).mean() > 0.9
    file = write_classifier(DATA, tmp_path / "model.onnx", weights, bias)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (answer,) = session.run(["probabilities"], {"input": images[:4]})
    np.testing.assert_allclose(answer[:, 1], 1 / (1 + np.exp(-said[:4])), atol=1e-4)


def test_exact_figures_are_counted_over_all_pairs():
    """Two roles, two genders, two tones: one answer of eight follows the tone."""
    tones = ("light", "dark")
    answers = {(role, gender, tone): int(gender == "woman") for role in "ab" for gender in ("man", "woman") for tone in tones}
    answers["a", "man", "dark"] = 1
    assert case_people.exact_flip_rate(answers, "skin_tone") == 1 / 4
    assert case_people.exact_flip_rate(answers, "gender") == 3 / 4
    assert case_people.exact_gap(answers, tones) == -1 / 4


@needs(case_digits)
def test_inverted_digits_break_the_classifier_and_little_else_does():
    """Of the first hundred; computed without a server, on the pixels of the operators."""
    pixels, shown = case_digits.mnist(DATA, 100)
    truth = case_digits.exact(DATA, pixels, shown)
    assert truth["unchanged"]["accuracy"] > 0.95
    assert wilson(round(100 * truth["inverted"]["accuracy"]), 100).high < 0.6
    assert all(truth[name]["decisions changed"] < 0.15 for name in ("grey_ground", "corner_patch", "weak_contrast"))
    width = case_digits.thickness(pixels)
    assert np.corrcoef(width, pixels.mean((1, 2)))[0, 1] > 0.3


def test_a_chart_is_an_image_of_its_bars():
    """Well formed, with every label, whatever the range."""
    for scale in (1e-3, 1.0, 40.0):
        bars = [Bar(label="a < b", value=scale, low=-scale, high=2 * scale, truth=scale), Bar(label="c", value=0.0, strong=False)]
        root = ET.fromstring(chart("title & more", bars, axis="share"))
        words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"a < b", "c", "title & more"} <= set(words)
        assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2
        places = [float(each.get("cx") or "nan") for each in root.iter("{http://www.w3.org/2000/svg}circle")]
        assert all(250 <= place <= 700 for place in places)


def test_missing_data_end_a_study_with_its_reason(tmp_path):
    with pytest.raises(SystemExit, match="has no mnist, mnist-ddpm; name a folder"):
        case_digits.main(["--data", str(tmp_path), "--work", str(Path(tmp_path) / "work")])
