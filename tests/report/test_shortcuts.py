"""Suspected shortcuts in the report."""

import re

import pytest

from audit_plugin.core.results import from_json, to_json
from audit_plugin.report.html import render
from tests.methods.shortcut.told import judged, picture
from tests.report import factory

PLAIN = {"lighting": "bright", "background": "plain", "size": "large", "colour": "blue", "shape": "circle", "tone": "a"}


@pytest.fixture(scope="module")
def gallery():
    return factory.Gallery()


def page_of(gallery, told):
    page = render([factory.planted(gallery, pairs=(), shortcuts=told)], gallery)
    start = page.find('<section id="shortcuts"')
    return " ".join(page[start : page.index("</section>", start)].split()) if start >= 0 else ""


def test_the_verdict_the_controls_and_the_pictures_are_shown(gallery):
    """Before, flipped, the editor alone and the difference, each with the model's score."""
    before, after = (gallery.add({**PLAIN, "watermark": level}, 1) for level in ("present", "absent"))
    page = page_of(gallery, (judged(0.3, pictures=[picture(before, after, before)]),))
    assert '<span class="verdict alert"><span aria-hidden="true">▲</span> a shortcut</span>' in page
    assert "39, 1 changed the task" in page
    for what in ("MAD beyond the editor", "MAD beyond lighting", "Flips that the independent detector sees"):
        assert what in page
    assert page.count("<img ") == 4
    for score in ("0.61", "0.32", "0.59"):
        assert score in page
    assert "removed, 50th percentile" in page


def test_names_cannot_break_out(gallery):
    evil = "<script>alert(1)</script>"
    page = page_of(gallery, (judged(0.3, pictures=[picture("a", "b", "c", image=evil)]),))
    assert evil not in page
    assert page.count("picture not available") == 4


def test_without_suspects_there_is_no_section(gallery):
    assert page_of(gallery, ()) == ""
    assert not re.search(r"shortcuts", render([factory.planted(gallery, pairs=())], gallery))


def test_they_come_back_from_json(gallery):
    result = factory.planted(gallery, pairs=(), shortcuts=(judged(0.0),))
    assert from_json(to_json(result)) == result
