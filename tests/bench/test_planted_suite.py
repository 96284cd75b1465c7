"""A small slice of the planted suite: its worlds, truths, approaches and judgements, on classifiers that ship with the package."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.core.results import RunState
from audit_plugin.demo.truth import ASSETS, onnx_path
from tests.bench import report as reports
from tests.bench.planted_suite import glyphs, others
from tests.bench.planted_suite.__main__ import of_others, silent
from tests.bench.planted_suite.costs import Spent
from tests.bench.planted_suite.judge import Claim, Judged, concept_of, tally, together
from tests.bench.planted_suite.outcome import AUDITED, CLAIMED, Outcome, kept
from tests.bench.planted_suite.planted import CORE, Planted, Rule, predictor, shipped, suite
from tests.bench.planted_suite.site import Audited, Site, Size, named_again
from tests.bench.planted_suite.tables import _at_rate, fill
from tests.bench.planted_suite.truth import ConceptTruth, rows_of, truths
from tests.bench.planted_suite.worlds import World, all_worlds, of_glyphs, scenes
from tests.bench.report import Report
from tests.bench.service_load import broad
from tests.findings.found import discovery, idle, subject, word

SCENES = scenes()
STRONG = ConceptTruth(importance=0.3, importance_se=0.01, flip_rate=0.4, shift=4.0)
IDLE = ConceptTruth(importance=0.0, importance_se=0.001, flip_rate=0.0, shift=0.01)


@pytest.fixture(scope="module")
def digits() -> World:
    return of_glyphs("digits", glyphs.sklearn_digits())


def test_a_concept_is_set_alone(digits: World) -> None:
    seeds, values = list(range(40)), np.stack([np.arange(40) % len(one.levels) for one in digits.concepts], 1)
    before = digits.held_out(seeds, values).astype(int)
    for name, least, most in (("patch", 20, 36), ("frame", 200, 260)):
        flipped = values.copy()
        flipped[:, digits.index(name)] ^= 1
        changed = (np.abs(digits.held_out(seeds, flipped) - before).max(-1) > 3).sum((1, 2))
        assert least <= np.median(changed)
        assert changed.max() <= most


def test_audited_glyphs_are_not_those_that_were_learnt_from() -> None:
    learnt, held_out = glyphs.sklearn_digits().halves()
    seen = {picture.tobytes() for some in learnt.pictures for picture in some}
    assert not any(picture.tobytes() in seen for some in held_out.pictures for picture in some)


def test_suite_is_large_and_of_every_kind() -> None:
    worlds = all_worlds()
    everything = [planted for world in worlds for planted in (*shipped(world), *suite(world))]
    kinds = {planted.reliance for planted in everything}
    assert {"none", "weak", "strong", "two", "interaction", "unlisted", "multi-label"} <= kinds
    assert len({planted.name for planted in everything}) == len(everything)
    if len(worlds) >= 4:
        assert len(everything) >= 40


def test_rule_of_agreement_says_nothing_of_either_concept_alone(digits: World) -> None:
    planted = Planted(name="pair", reliance="interaction", rules={"positive": Rule(agree=("ink", "patch", 20.0))})
    values = np.array([[0, ink, 0, 0, patch, 0] for ink in (0, 1) for patch in (0, 1)])
    labels = planted.labels(digits, values, np.random.default_rng(0))[:, 0].reshape(2, 2)
    assert (labels == np.eye(2)).all()


def test_core_rule_holds_for_all_levels(digits: World) -> None:
    planted = Planted(name="core", reliance="none", rules={"yes": Rule(weights={CORE: {"zero": 30.0, "*": -30.0}})})
    values = np.zeros((5, 6), np.int64)
    values[:, 0] = range(5)
    assert planted.labels(digits, values, np.random.default_rng(0))[:, 0].tolist() == [1, 0, 0, 0, 0]


def test_truth_and_others_on_two_shipped_classifiers() -> None:
    chosen = {planted.name: planted for planted in shipped(SCENES) if planted.name in {"ruler_alone", "shape_background_100"}}
    networks = {planted: onnx_path(name) for name, planted in chosen.items()}
    models = {planted: predictor(path) for planted, path in networks.items()}
    known = truths(SCENES, models, 40)
    assert known["ruler_alone", "label"]["ruler"].strong
    assert all(abs(one.importance) < 0.05 for name, one in known["ruler_alone", "label"].items() if name != "ruler")
    assert known["shape_background_100", "label"]["background"].strong
    claims = of_others(SCENES, rows_of(SCENES, 30, "slice"), models, networks, looked_at=4, compared=6)
    by = {one.approach: one for one in claims if one.classifier == "ruler_alone" and one.concept == "ruler"}
    assert set(by) == {
        "integrated gradients", "occlusion", "differences of scores", "property and label in the data", "words by margin (B2T)",
        "DEPICT as published", "DiffEx as published",
    }  # fmt: skip
    for approach in ("integrated gradients", "occlusion", "differences of scores", "DiffEx as published"):
        ranked = sorted(
            (one for one in claims if one.approach == approach and one.classifier == "ruler_alone"), key=lambda one: -one.strength
        )
        assert ranked[0].concept == "ruler", approach


def test_site_is_a_configuration_that_loads(tmp_path: Path) -> None:
    labels = next(planted for planted in suite(SCENES) if planted.multi_label)
    chosen = {shipped(SCENES)[0]: onnx_path("shape_clean"), labels: onnx_path("shape_clean")}
    site = Site(
        world=SCENES, networks=chosen, rows=rows_of(SCENES, 12, "slice"), size=Size(rows=12), folder=tmp_path,
        generator=ASSETS / "generator", detector=ASSETS / "detector" / "scenes.onnx",
    )  # fmt: skip
    replace(site, networks={shipped(SCENES)[0]: onnx_path("shape_clean")}).write()
    loaded = [site.configure("127.0.0.1:9", kind) for kind in site.kinds]
    assert [model.label for model in loaded[1].models] == [f"{labels.name}.{task}" for task in labels.rules]
    assert SCENES.unlisted not in {one.name for one in loaded[0].document.concept_set.concepts}
    with (tmp_path / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_what_discovery_names_is_listed_in_the_second_audit(tmp_path: Path) -> None:
    planted = {one.name: one for one in shipped(SCENES)}
    names = ("snowman_and_lighting", "shape_clean")
    site = Site(
        world=SCENES, networks={planted[name]: onnx_path(name) for name in names}, rows=rows_of(SCENES, 12, "slice"),
        size=Size(rows=12), folder=tmp_path, generator=ASSETS / "generator", detector=ASSETS / "detector" / "scenes.onnx",
    )  # fmt: skip
    site.write()
    kind = next(kind for kind in site.kinds if planted[names[0]] in site.of_kind(kind))
    loaded = site.configure_again("127.0.0.1:9", kind, {names[0]})
    assert [model.target.model for model in loaded.models] == [names[0]]
    assert SCENES.unlisted in {one.name for one in loaded.document.concept_set.concepts}
    assert Path(loaded.config.store).name != Path(site.configure("127.0.0.1:9", kind).config.store).name
    assert SCENES.says("beside a snowman") == {SCENES.unlisted}


def test_only_broken_audits_of_which_discovery_tells_why_are_made_again() -> None:
    broken = replace(broad(1, 1), model="ham", state=RunState.INVALID_GENERATOR, headline="broken: ask audit-plugin discover")
    found = discovery(subject(word("beside a snowman")))
    assert named_again(SCENES, [broken], [found]) == {"ham"}
    assert named_again(SCENES, [replace(broken, state=RunState.SUCCEEDED)], [found]) == set()
    assert named_again(SCENES, [replace(broken, headline="broken: use a better generator")], [found]) == set()
    for other in (word("beside a ruler"), idle("beside a snowman")):
        assert named_again(SCENES, [broken], [discovery(subject(other))]) == set()


def test_a_second_audit_speaks_where_the_first_was_broken() -> None:
    works = replace(broad(1, 1), model="a", label="a")
    broken = replace(works, state=RunState.INVALID_GENERATOR)
    assert silent(Audited(results=(works,), discoveries=())) == set()
    assert silent(Audited(results=(broken,), discoveries=())) == {("a", "label")}
    assert silent(Audited(results=(broken,), again=(works,), discoveries=())) == set()
    assert silent(Audited(results=(broken,), again=(broken,), discoveries=())) == {("a", "label")}
    other = replace(works, label="a.other")  # spoke at first, and is what counts of this task
    again = (works, replace(other, state=RunState.INVALID_GENERATOR))
    assert silent(Audited(results=(broken, other), again=again, discoveries=())) == set()


def _judged(truth: ConceptTruth, strength: float, *, found: bool, concept: str, unlisted: bool = False) -> Judged:
    claim = Claim(
        approach="one", world="w", classifier="c", task="label", concept=concept, found=found, strength=strength, estimate=strength,
        low=strength - 0.05, high=strength + 0.05,
    )  # fmt: skip
    return Judged(claim=claim, truth=truth, unlisted=unlisted)


def test_tally_counts_what_is_true() -> None:
    found = [
        _judged(STRONG, 0.31, found=True, concept="a"),
        _judged(STRONG, 0.10, found=False, concept="b"),
        _judged(IDLE, 0.01, found=True, concept="c"),
        _judged(IDLE, 0.00, found=False, concept="d"),
        _judged(STRONG, 0.30, found=True, concept="e", unlisted=True),
    ]
    told = tally("one", found)
    assert (told.strong_found, told.strong, told.unlisted_found, told.unlisted) == (1, 2, 1, 1)
    assert (told.accused, told.idle) == (1, 2)
    assert told.covered == pytest.approx(0.75)
    assert _at_rate(found, 0.0, strong=True) == 1.0
    assert together([one.claim for one in found])[0].approach == "audit"


def test_best_threshold_is_paid_for_by_idle_concepts() -> None:
    found = [
        _judged(STRONG, 0.2, found=True, concept="a"),
        _judged(IDLE, 0.3, found=False, concept="b"),
        _judged(IDLE, 0.1, found=False, concept="c"),
    ]
    assert _at_rate(found, 0.0, strong=True) == 0.0
    assert _at_rate(found, 0.5, strong=True) == 1.0


def test_what_was_said_of_a_world_is_kept_and_tabled(tmp_path: Path) -> None:
    reliance, idle = _judged(STRONG, 0.31, found=True, concept="a"), _judged(IDLE, 0.0, found=False, concept="b")
    said = tuple(
        replace(one.claim, approach=name) for name in ("audit", "DEPICT", "integrated gradients") for one in (reliance, idle)
    )
    first = kept(tmp_path / "one.json", CLAIMED, lambda: said)
    assert first.minutes > 0
    assert first.value == said
    assert kept(tmp_path / "one.json", CLAIMED, lambda: pytest.fail("made again")) == first
    audits = Audited(results=(broad(2, 1),), discoveries=(), problems=("x",), files=(tmp_path,))
    assert kept(tmp_path / "audits.json", AUDITED, lambda: audits).value == audits
    found = Outcome(
        judged=tuple(Judged(claim=one, truth=STRONG if one.concept == "a" else IDLE, unlisted=False) for one in first.value),
        spent={"audit": [Spent(queries=3, made=2)]},
        minutes=2.0,
    )
    report = Report(name="one", question="?")
    fill(report, {"w": found, "v": found})
    assert report.figures["recall_strong"] == 1.0
    assert report.figures["minutes"] == 4.0
    assert report.figures["recall_strong_first_audits"] == 1.0
    second = replace(found, judged=tuple(replace(one, again=True) for one in found.judged))
    fill(report, {"w": found, "v": second})
    assert report.figures["recall_strong"] == 1.0
    assert report.figures["recall_strong_first_audits"] == 0.5
    assert report.tables["classifiers"][-1]["audit"] == "broken, then not"
    assert report.rows[0]["queries a task"] == 3


def test_kept_audits_are_not_those_of_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.py").write_text("one = 1")
    (tmp_path / "b.py").write_text("two = 2")
    monkeypatch.setattr(reports, "ROOT", tmp_path)
    before = reports.code(("folder", "b.py"))
    assert reports.code(("folder", "b.py")) == before
    (tmp_path / "folder" / "a.py").write_text("one = 2")
    assert reports.code(("folder", "b.py")) != before


def test_nodes_are_judged_by_the_concept_whose_level_they_set(digits: World) -> None:
    """An exact change of the light is another thing than the concept of that name, and nobody knows its truth."""
    paths = ("lighting/dim", "lighting/gradient/top", "lighting", "ruler/present", "geometry/vflip", "artefact/border/black/px_2")
    assert [concept_of(SCENES, path) for path in paths] == ["lighting", "", "", "ruler", "", ""]
    assert concept_of(digits, "artefact/border/black/px_2") == "frame"


def test_regions_are_where_a_concept_is(digits: World) -> None:
    masks = others.regions(digits, rows_of(digits, 4, "slice"))
    assert masks["frame"][:, 0].all()
    assert masks["patch"][:, :8, :8].any((1, 2)).all()
    assert not masks["patch"][:, 12:].any()
