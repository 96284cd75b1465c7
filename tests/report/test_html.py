"""The page: complete, honest when the audit broke, and closed to hostile input and to the network."""

import base64
import dataclasses
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from PIL import Image

from audit_plugin.core.results import AuditResult, RunState, Verdict
from audit_plugin.core.values import Role
from audit_plugin.report.html import render
from audit_plugin.report.words import interval
from tests.report import factory

VOID = {"meta", "link", "img", "br", "col", "hr", "input"}
DRAWING = {"line", "rect", "path", "circle"}


class Page(HTMLParser):
    """Elements with their attributes; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWING
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(scope="module")
def gallery() -> factory.Gallery:
    return factory.Gallery()


@pytest.fixture(scope="module")
def two(gallery) -> tuple[AuditResult, AuditResult]:
    return factory.planted(gallery), factory.clean(gallery)


@pytest.fixture(scope="module")
def page(two, gallery) -> Page:
    return Page(render(two, gallery, history=[factory.earlier(two[0], findings=())]))


def test_first_screen_says_verdict_size_changes_gaps_and_limits(page, two):
    """A reader who stops after one screen knows what was found, on how much, and what was not looked at."""
    first = page.text[: page.text.index("Dot: estimate")]
    for result in two:
        assert result.headline in first
    for needed in (
        "n = 150",
        "0.163 [0.135, 0.191]",
        "New finding",
        "Robustness to blur",
        "absence of bias",
    ):
        assert needed in first
    assert "no bias" not in page.text.lower().replace("absence of bias", "")


def test_no_finding_comes_with_the_smallest_detectable_effect(page):
    """Silence is bounded: the effect that could have been seen stands beside it."""
    assert (
        "no finding at these thresholds. With n = 150 rows this run had 80 % power to see an effect on AUROC of 0.009" in page.text
    )


def test_a_reliance_without_a_finding_says_why(gallery):
    """Too few rows for the policy, say: the table says "relies, and must not", and the first page must not call that nothing."""
    plain = factory.clean(gallery)
    shown = factory.concept("background", 0.3, 0.05, Verdict.RELIES, role=Role.NUISANCE)
    text = Page(render([dataclasses.replace(plain, concepts=(shown, *plain.concepts[1:]))], gallery)).text
    assert "It relies on background, and must not: the policy makes no finding of that" in text


def test_nothing_is_fetched_and_nothing_runs(page):
    """No scripts, no remote assets, no inline styles; the policy allows the one pinned style sheet and data images."""
    assert not list(page.all("script"))
    assert all(attributes.get("src", "data:").startswith("data:image/png;base64,") for attributes in page.all("img"))
    assert [attributes["href"] for attributes in page.all("link")] == ["data:,"]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcset", "xlink:href"}], tag
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_every_picture_has_alt_text_and_says_that_it_is_synthetic(page):
    """Random pairs of both models share one card; each holds two synthetic images and their difference."""
    pictures = list(page.all("img"))
    assert len(pictures) == 7 * (12 + 2 * 6) * 3
    assert all(attributes["alt"] for attributes in pictures)
    assert page.text.count("synthetic image") >= 2 * len(pictures) / 3
    assert all(a.get("aria-label") or a.get("aria-hidden") or "x" in a for a in page.all("svg"))


def test_pictures_that_were_looked_up_are_not_called_synthetic(two, gallery):
    """They are the table's own, and the page says so."""
    own = dataclasses.replace(two[0], provenance=dataclasses.replace(two[0].provenance, backend="pictures"))
    page = Page(render([own], gallery))
    assert "synthetic" not in page.text.lower()
    assert "looked up and not generated" in page.text
    assert "pictures of the table that differ in one concept at a time" in page.text
    assert "same seed" not in page.text.lower()
    line = "gates G1 to G6 hold the table against itself and are no evidence"
    assert line in Page(render([own], gallery)).text
    assert line not in Page(render([two[0]], gallery)).text


def test_shared_pictures_are_shown_once_with_both_answers(page):
    """Two models asked about the same pixels stand on the same card."""
    assert "12 of 150 pairs, drawn by seed" in page.text
    assert "12 pairs, drawn by seed from 150 rows × 3 levels" in page.text
    assert "6 extremes: the largest score changes of scenes_clean, not typical" in page.text


def test_pictures_of_concern_are_open_and_the_rest_folded(two, gallery):
    """The reader sees shape, watermark and lighting at once; the others take a click."""
    text = render(two, gallery)
    assert re.findall(r"<details open>\s*<summary>(\w+)", text) == ["shape", "watermark", "lighting"]


def test_the_chart_holds_every_model_on_one_axis(two, gallery):
    """Concepts are sorted by importance; the weak edit comes last and says "at least"."""
    text = render(two, gallery)
    labels = re.findall(r'aria-label="(\w+), (\w+): ([^"]+)"', text)
    assert [(model, concept) for model, concept, _ in labels][:4] == [
        ("scenes_planted", "shape"), ("scenes_clean", "shape"), ("scenes_planted", "watermark"), ("scenes_clean", "watermark"),
    ]  # fmt: skip
    assert labels[-1][1] == "tone"
    assert labels[-1][2] == "at least 0.006 [−0.006, 0.018], inconclusive, true importance 0.008"


def test_hostile_names_stay_text(gallery):
    """A concept named like a script, a model named like an attribute: shown, never run."""
    evil, sly = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
    result = factory.planted(gallery, model=sly, headline=evil, not_tested=("{{ 7*7 }}",))
    concepts = (dataclasses.replace(result.concepts[0], concept=evil), *result.concepts[1:])
    pairs = tuple(dataclasses.replace(pair, before_caption=sly, row=evil) for pair in result.pairs[:3])
    finding = dataclasses.replace(result.findings[0], runbook="javascript:alert(1)", summary=evil)
    page = Page(render([dataclasses.replace(result, concepts=concepts, pairs=pairs, findings=(finding,))], gallery))
    assert evil in page.text
    assert "{{ 7*7 }}" in page.text
    assert not list(page.all("script"))
    assert not [a for _, a in page.elements if "onerror" in a or (a.get("href") or "").startswith("javascript")]


def test_an_invalid_generator_suppresses_the_ranking(gallery):
    """No importance, verdict, score or interventional figure of that model is shown; detectors' table and pictures are."""
    result = factory.broken(gallery)
    text = render([result], gallery)
    page = Page(text)
    for concept in result.concepts:
        assert interval(concept.importance) not in page.text
    assert not re.search(r'class="(whisker|verdict) ', text)
    assert "Audit broken: generator not valid" in page.text
    assert "Ranking suppressed" in page.text
    assert "Detectors, scenes_planted" in page.text
    assert "→ 0." not in page.text.split("Before and after")[2].split("Validity gates")[0]
    assert len(list(page.all("img"))) == 7 * 12 * 3
    assert "counterfactual parity gap" not in page.text
    assert "statistical parity difference" in page.text


def test_a_broken_model_does_not_hide_the_other(gallery, two):
    """Beside a broken audit the valid one keeps its ranking."""
    page = Page(render([factory.broken(gallery), two[1]], gallery))
    assert "0.372 [0.341, 0.403]" in page.text
    assert "not shown: generator not valid" in page.text


def test_empty_results_still_make_a_page(gallery):
    """No model at all, and a failed run that left nothing behind."""
    empty = factory.planted(
        gallery, state=RunState.FAILED, concepts=(), groups=(), gates=(), leakage={}, fairness=(), findings=(), pairs=(),
        not_tested=(), truth={}, placebo={}, real_score=None, generated_score=float("nan"), n_rows=0,
    )  # fmt: skip
    assert "No model was audited" in Page(render([], gallery)).text
    page = Page(render([empty], gallery))
    assert "run failed" in page.text
    assert "no finding" not in page.text
    assert "nan" not in page.text.split()


def test_lost_and_damaged_pictures_are_named_as_missing(two):
    """An image store without the picture, or with garbage in its place, costs the picture and not the report."""
    for images in (factory.nothing, lambda _: b"not a picture"):
        page = Page(render(two[:1], images))
        assert page.text.count("picture not available") == 7 * 18 * 3
        assert not list(page.all("img"))


def test_large_pictures_are_reduced(gallery):
    """A 1024-pixel picture is embedded at no more than 192 pixels."""
    out = io.BytesIO()
    Image.effect_noise((1024, 1024), 60).convert("RGB").save(out, "PNG")
    result = factory.planted(gallery)
    page = Page(render([dataclasses.replace(result, pairs=result.pairs[:1])], lambda _: out.getvalue()))
    for attributes in page.all("img"):
        with Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2]))) as shown:
            assert shown.size == (192, 192)
    assert "Large pictures are reduced for this page" in page.text


def test_not_assessable_concepts_have_no_value(gallery):
    """A failed gate of one concept takes its number out of table, chart and estimates."""
    result = factory.planted(gallery, truth={})
    gone = dataclasses.replace(result.concepts[1], verdict=Verdict.NOT_ASSESSABLE, validity="not_assessable")
    kept = tuple(dataclasses.replace(c, importance=factory.estimate(0.777, 0.01)) if c is gone else c for c in (gone,))
    page = Page(render([dataclasses.replace(result, concepts=(*kept, result.concepts[0]), findings=())], gallery))
    assert "0.777" not in page.text
    assert "not assessable" in page.text


def test_leakage_is_said_beside_the_value(gallery):
    """A leaking edit shows where it leaks and what is left after adjustment."""
    leaking = factory.concept("hue", 0.1, 0.02, Verdict.INCONCLUSIVE, validity="valid;leaks_into=size", role=Role.NUISANCE)
    page = Page(render([factory.planted(gallery, concepts=(leaking,))], gallery))
    assert "leaks into size; adjusted 0.097 [0.077, 0.117]" in page.text


def test_versions_of_one_model_are_told_apart(gallery):
    """Two versions side by side carry their version in the name."""
    page = Page(render([factory.planted(gallery), factory.planted(gallery, version="2")], gallery))
    assert "scenes_planted v1" in page.text
    assert "scenes_planted v2" in page.text
