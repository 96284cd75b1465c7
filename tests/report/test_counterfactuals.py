"""Counterfactuals in the report."""

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from audit_plugin.config import ExplainConfig
from audit_plugin.core.results import from_json, to_json
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.report.counterfactuals import chosen, failed, path_chart
from audit_plugin.report.differences import BRIGHTER, DARKER, NEUTRAL, changed_mask, signed_difference
from audit_plugin.report.html import render
from audit_plugin.report.method_words import METHODS
from tests.methods.counterfactuals.flips import flip, told
from tests.report import factory

PLAIN = {"lighting": "bright", "background": "plain", "size": "large", "colour": "blue", "shape": "circle", "tone": "a"}


@pytest.fixture(scope="module")
def gallery():
    return factory.Gallery()


@pytest.fixture(scope="module")
def known(gallery):
    """Flips with pictures, and one failure."""
    before, after = (gallery.add({**PLAIN, "watermark": level}, 1) for level in ("absent", "present"))
    made = told(40, extra=(flip(99, flipped=False, jpeg=None, after=0.3, attempts=3),))
    pictured = tuple(replace(item, before_sha256=before, after_sha256=after) for item in made.items)
    return replace(made, items=(replace(pictured[0], jpeg=False, witness=False), *pictured[1:]))


def page_of(gallery, found, **changes):
    page = render([conclude(factory.planted(gallery, pairs=(), counterfactuals=found, **changes), default_policy())], gallery)
    start = page.find('<section id="counterfactuals"')
    return " ".join(page[start : page.index("</section>", start)].split()) if start >= 0 else ""


def test_flips_failures_gradient_and_caution_are_shown(gallery, known):
    """Twelve flips and a failure, each with four pictures and its path; what was passed over; what they do not show."""
    page = page_of(gallery, known)
    assert page.count("<figure") == 13
    assert page.count("<img ") == 4 * 13
    assert page.count('class="path"') == 13
    assert "not what causes things in the world" in page
    assert "served: no such model" in page
    assert "Same first class on 100.0% of 64 images." in page
    assert "lost by JPEG" in page
    assert "not seen by another model" in page
    assert "best of 3 attempts" in page
    assert "circle → square" in page
    assert "p(square) 0.10 → 0.90" in page


def test_of_too_few_flips_the_report_says_how_many_there_are(gallery, known):
    """A correlation difference that an older version computed of them is not shown."""
    few = replace(known, gaps=tuple(replace(gap, towards=7, away=3) for gap in known.gaps))
    page = page_of(gallery, few)
    assert 'Correlation difference (CD)</th><td class="num">too few flips: 10, 20 are needed</td>' in page
    assert "CD that chance" not in page


def test_the_method_is_told_in_a_sentence_with_its_source(gallery, known):
    """Of every name that a configuration may give, but ``auto``, which is none."""
    assert "FastDiME: Weng et al., ECCV 2024)." in page_of(gallery, known)
    assert set(METHODS) | {"auto"} == set(get_args(ExplainConfig.__dataclass_fields__["method"].type))


def test_every_figure_names_its_images(gallery, known):
    """And what was not measured is left out."""
    page = page_of(gallery, known)
    rows = dict(re.findall(r'<tr><th scope="row">([^<]+)</th><td class="num">[^<]+</td><td class="soft">([^<]+)</td>', page))
    assert rows["Flip ratio (FR)"] == "all 40 images"
    assert rows["Median distance (l1, of 1)"] == "the 40 flips"
    assert rows["Correlation difference (CD)"] == "flips to or from square (20 to, 20 from)"
    assert rows["COUT, −1 to 1: few pixels carry the flip"] == "images whose path was followed"
    bare = replace(
        known, figures=replace(known.figures, witness_ratio=None, adversarial_ratio=None, cout=None), sets=(), diversity=None
    )
    rows = dict(
        re.findall(
            r'<tr><th scope="row">([^<]+)</th><td class="num">[^<]+</td><td class="soft">([^<]+)</td>', page_of(gallery, bare)
        )
    )
    assert not [what for what in rows if any(word in what for word in ("independent", "dversarial", "COUT", "KID", "iversity"))]


def test_sets_runs_and_the_witness_are_told_with_what_they_are_of(gallery, known):
    """A figure that was refused says why in place of a number; diversity by pixels is not called LPIPS."""
    page = page_of(gallery, known)
    cells = {what: (value, of) for what, value, of in re.findall(
        r'<tr><th scope="row">([^<]+)</th><td class="num">([^<]+)</td><td class="soft">([^<]+)</td>', page)}  # fmt: skip
    assert cells["FID: flips against real images, lower is better"] == (
        "– FID needs 500 images",
        "60 real images, 60 counterfactuals (CC+IC, CCF), features of net:pool",
    )
    value, of = cells["KID: the same by a kernel, for few images"]
    assert "0.05" in value
    assert "60 counterfactuals" in of
    assert "(CC, CCF+ICF)" in cells["S3: mean cosine of what pictures show"][1]
    told = cells["Diversity: distance between runs (l1)"]
    assert told == ("0.2500", "50 images, 3 runs each; 10 that flip in some runs and not in others are left out")
    assert "LPIPS" not in page
    (witness,) = [what for what in cells if "independent model (colours version 1)" in what]
    assert "100" in cells[witness][0] or "1.00" in cells[witness][0]
    assert "Adversarial flips: neither JPEG nor that model keeps them" in cells


def test_the_gap_that_is_a_finding_is_marked(gallery, known):
    page = page_of(gallery, known)
    assert page.count("▲") == 1
    assert re.search(r'<tr class="alert"> ?<th scope="row">watermark=present', page)
    assert page.count('class="bar"') == len(known.gaps)


def test_a_gallery_of_many_holds_the_nearest_the_middle_and_the_farthest():
    items = [flip(at, l1=at / 100) for at in range(41)]
    got = chosen(items)
    assert [place for place, _ in got] == ["nearest"] * 4 + ["middle"] * 4 + ["farthest"] * 4
    assert [round(100 * item.l1) for _, item in got] == [0, 1, 2, 3, 18, 19, 20, 21, 37, 38, 39, 40]


@pytest.mark.parametrize("count", range(16))
def test_a_gallery_of_few_shows_each_once(count):
    got = chosen([flip(at) for at in range(count)])
    assert len({item.image for _, item in got}) == len(got) == min(count, 12)


def test_failures_are_three_at_most():
    missed = [flip(at, flipped=False, after=at / 10) for at in range(7)]
    assert [item.after for item in failed([flip(9), *missed])] == [0, 0.3, 0.6]
    assert failed([flip(9)]) == ()


def test_a_path_is_drawn_from_the_image_to_the_picture():
    chart = path_chart(flip(0, path=(0.0, 0.0, 1.0, 1.0, 1.0)))
    assert chart.start[1] > chart.end[1]
    assert chart.line.count("L") == 4
    assert "once 50% of the pixels" in chart.words
    assert path_chart(flip(0, path=())) is None


def test_the_difference_says_which_way_and_the_mask_where():
    """Darker is blue, brighter orange, the same near white; the mask has the changed pixels alone."""
    before = np.full((1, 3, 3), 100, np.uint8)
    after = np.stack([np.full((1, 3), level, np.uint8) for level in (0, 100, 250)], axis=1)
    assert signed_difference(before, after)[0].tolist() == [list(DARKER), list(NEUTRAL), list(BRIGHTER)]
    assert (changed_mask(before, after)[0, :, 0] < 100).tolist() == [True, False, True]


def test_names_cannot_break_out_and_lost_pictures_are_told(gallery, known):
    evil = "<script>alert(1)</script>"
    bare = replace(known, items=(flip(0, image=evil, original=evil),), rung_said=evil, notes=(evil,), summary=evil)
    page = page_of(gallery, bare)
    assert evil not in page
    assert page.count("picture not available") == 4


def test_without_counterfactuals_there_is_no_section_and_alone_they_are_a_report(gallery, known):
    assert page_of(gallery, None) == ""
    alone = factory.planted(gallery, pairs=(), concepts=(), counterfactuals=known)
    page = render([alone], gallery)
    assert "Verdicts" not in page
    assert "The counterfactuals are edits of real photographs." in page


def test_they_come_back_from_json(gallery, known):
    result = factory.planted(gallery, pairs=(), counterfactuals=known)
    assert from_json(to_json(result)) == result
