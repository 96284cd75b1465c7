"""Self-tests on tables of known truth: what is put in is found from some size on, and nothing where nothing is."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.selftest_results import Part, from_json, to_json
from audit_plugin.core.values import Role
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.methods.depict.gates import GateOptions
from audit_plugin.selftesting.bench import bench_of, drawn
from audit_plugin.selftesting.curve import detection_curve, size_found
from audit_plugin.selftesting.judged import judged_digest
from audit_plugin.selftesting.kept import KeptOutcomes, holds, keep, known_selftest
from audit_plugin.selftesting.planted import Cell, Outcome, PlantedAudits, _severed
from audit_plugin.selftesting.run import Wanted, concluded, run_cells
from audit_plugin.selftesting.wrapper import EPSILON, answers
from audit_plugin.selftests import Asked, SelfTests, _Prepared
from tests.findings.examples import result
from tests.methods.world import Generator, binary, build, linear, score

CONCEPTS = (binary("shape", Role.CORE), binary("ruler", Role.ARTEFACT), binary("mark", Role.NUISANCE))
FLIPS = replace(default_policy().thresholds[0], name="flips", metric="flip_rate_excess", threshold=0.01)
QUICK = DepictOptions(resamples=100, adjusted_resamples=10)


def audits(*, relies=0.0, policy=None, n=120, concepts=("ruler", "mark"), seed=3, obeys=1.0, truth=(2, 0, 0)):
    """A model that answers from the shape, and from the mark by ``relies``, with a little noise in every picture."""
    world = build(n, np.random.default_rng(1), linear(truth), concepts=CONCEPTS, generator=Generator(obeys=obeys))
    rng = np.random.default_rng(seed)
    scores = {}
    for name, vector in score(world, linear((2, 0, relies))).items():
        p = 1 / (1 + math.exp(-(math.log(vector[1] / vector[0]) + 0.1 * rng.normal())))
        scores[name] = np.array([1 - p, p])
    bench = bench_of(world.table, scores, concepts, 1, own=world.labels == 1, model="m")
    return PlantedAudits(
        bench=bench,
        audited=result(label="task", gates=()),
        policy=policy or Policy(name="flips", thresholds=(FLIPS, *default_policy().thresholds)),
        options=QUICK,
        classes=("neg", "pos"),
        positive=None,
        detector_auroc={},
    )


def test_the_class_moves_by_exactly_the_shift_and_the_others_make_room_in_proportion():
    scores = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
    told = answers(scores, 1, model="m")
    moved = told.at(np.array([0, 1]), told.log_odds + np.array([1.5, -2.0]))
    assert moved.sum(1) == pytest.approx([1, 1])
    assert np.log(moved[:, 1] / (1 - moved[:, 1])) - told.log_odds == pytest.approx([1.5, -2.0])
    assert moved[:, 0] / moved[:, 2] == pytest.approx(scores[:, 0] / scores[:, 2])
    assert told.at(np.array([0, 1]), told.log_odds) == pytest.approx(scores)


def test_classes_with_a_probability_each_stay_as_they_are():
    told = answers(np.array([[0.9, 0.8], [0.3, 0.6]]), 0, model="m")
    moved = told.at(np.array([0, 1]), told.log_odds + 1)
    assert not told.exclusive
    assert moved[:, 1].tolist() == [0.8, 0.6]
    assert np.log(moved[:, 0] / (1 - moved[:, 0])) - told.log_odds == pytest.approx([1, 1])


def test_merged_classes_share_what_some_of_the_models_own_leave_them():
    """Sums over exclusive classes of which some belong to none: all others make room, those that are left out as well."""
    scores = np.array([[0.5, 0.3], [0.1, 0.2]])
    told = answers(scores, 0, model="m", merged=True)
    assert told.exclusive
    assert not answers(scores, 0, model="m").exclusive
    assert not answers(np.array([[0.9, 0.8]]), 0, model="m", merged=True).exclusive
    moved = told.at(np.array([0, 1]), told.log_odds + np.log(3))
    np.testing.assert_allclose(moved, [[0.75, 0.15], [0.25, 0.2 * 0.75 / 0.9]])
    np.testing.assert_allclose(told.at(np.array([0, 1]), told.log_odds), scores)


def test_saturated_answers_are_clipped_and_counted():
    told = answers(np.array([[0.0, 1.0], [0.5, 0.5], [1e-12, 1 - 1e-12], [0.3, 0.7]]), 1, model="m")
    assert told.clipped == 0.5
    assert told.log_odds[0] == pytest.approx(-math.log(EPSILON), rel=1e-6)
    assert np.isfinite(told.at(np.arange(4), told.log_odds - 3)).all()


@pytest.mark.parametrize(("scores", "why"), [([[0.0, 1.0], [1.0, 0.0]], "answers with classes"), ([[3.0, -1.0]], "outside")])
def test_answers_without_log_odds_are_refused(scores, why):
    with pytest.raises(ConfigError, match=why):
        answers(np.array(scores), 1, model="m")


def test_the_mean_answer_stays_and_an_edit_that_was_not_made_moves_nothing():
    bench = audits(obeys=0.7).bench
    base = bench.table.baseline.astype(int)
    assert bench.shows["ruler"][base].mean() == pytest.approx(0, abs=1e-12)
    flips, own = bench.table.flips["ruler"], bench.table.values[:, 1]
    seen = np.array([bench.table.readings[name]["ruler"].argmax() for name in flips[1 - own, np.arange(len(own))].tolist()])
    failed = np.flatnonzero(seen == own)
    assert len(failed)
    moved = bench.shows["ruler"][flips[1 - own, np.arange(len(own))].astype(int)] - bench.shows["ruler"][base]
    read = np.array([bench.table.readings[name]["ruler"].argmax() for name in bench.table.baseline.tolist()])
    assert np.abs(moved[failed[read[failed] == own[failed]]]).max() < 0.01
    assert np.median(np.abs(moved[seen != own])) > 0.8


def test_a_unit_that_is_drawn_twice_is_two_units_and_takes_all_its_rows_along():
    table = audits().bench.table
    pairs = replace(table, rows=tuple(replace(row, unit=f"u{at // 2}") for at, row in enumerate(table.rows)))
    again, at = drawn(pairs, np.random.default_rng(0))
    assert (len(again.rows), len(set(again.units))) == (120, 60)
    assert len({row.id for row in again.rows}) == 120
    assert len(set(at.tolist())) < 100
    assert (at[0::2] + 1 == at[1::2]).all()
    assert again.baseline.tolist() == table.baseline[at].tolist()


def test_a_large_effect_is_found_a_larger_one_no_less_and_none_where_there_is_none():
    """Though the model itself relies on the mark: severed flips know nothing of it."""
    made = audits(relies=1.5)
    wanted = Wanted(concepts=("ruler", "mark"), sizes=(0.0, 0.3, 6.0), runs=2)
    outcomes = [made.outcome(cell) for cell in wanted.cells if cell.concept != "mark"]
    told = concluded(made, replace(wanted, concepts=("ruler",)), outcomes, class_name="pos")
    curve = told.concept("ruler").curve()
    assert [point.found for point in curve.points] == sorted(point.found for point in curve.points)
    assert curve.points[-1].rate.value == 1.0
    assert curve.size95 is not None
    assert told.false_findings == 0
    assert told.concept("ruler").curve(Part.FLIPS).points[-1].found == 2
    assert (told.rows, told.false_runs, told.runs) == (120, 2, 6)


def test_what_the_policy_does_not_bound_is_seen_and_said_to_be_no_finding():
    made = audits(policy=default_policy())
    outcomes = [made.outcome(Cell(concept="ruler", size=6.0, repeat=0)), made.outcome(Cell(concept="", size=0.0, repeat=0))]
    told = concluded(made, Wanted(concepts=("ruler",), sizes=(0.0, 6.0), runs=1), outcomes, class_name="pos")
    one = told.concept("ruler")
    assert one.curve(Part.FLIPS) is None
    assert one.curve(Part.SEEN).points[-1].found == 1
    assert any("flip_rate_excess" in note for note in told.notes)


class Counting:
    """Finds every effect from a size on, and counts who asks."""

    def __init__(self, *, dies_after=10**9) -> None:
        self.asked, self.left = [], dies_after

    def outcome(self, cell):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked.append(cell)
        return Outcome(cell=cell, found={cell.concept: (Part.IMPORTANCE,)} if cell.size >= 1 else {}, seconds=0.5)


def quiet(done, total, what):
    assert 0 <= done <= total, what


def test_what_is_killed_goes_on_and_another_key_begins_anew(tmp_path):
    cells = Wanted(concepts=("a", "b"), sizes=(0.0, 1.0), runs=2).cells
    kept = KeptOutcomes(file=tmp_path / "x" / "outcomes.jsonl", key="k")
    with pytest.raises(KeyboardInterrupt):
        run_cells(Counting(dies_after=4), cells, kept, workers=1, progress=quiet)
    with kept.file.open("a") as file:
        file.write('{"key": "k", "concept": "a", "si')  # the kill came while it wrote
    second = Counting()
    outcomes = run_cells(second, cells, kept, workers=1, progress=quiet)
    assert second.asked == list(cells[4:])
    assert [one.cell for one in outcomes] == list(cells)
    assert run_cells(Counting(dies_after=0), cells, kept, workers=1, progress=quiet) == outcomes
    other = Counting()
    run_cells(other, cells, replace(kept, key="other"), workers=1, progress=quiet)
    assert len(other.asked) == len(cells)


def test_the_size_that_is_found_is_between_those_that_were_tried():
    curve = detection_curve(Part.ANY, {0.0: [False] * 10, 1.0: [True] * 6 + [False] * 4, 3.0: [True] * 10})
    assert curve.size80 == pytest.approx(2.0)
    assert curve.size95 == pytest.approx(2.75)
    assert (curve.points[1].rate.low, curve.points[1].rate.high) == pytest.approx((0.262, 0.878), abs=1e-3)
    assert size_found(curve.points[:2], 0.8) is None


def judged(made, *, rows=None, concepts=None, positive=None, options=QUICK, audit="demo"):
    table = made.bench.table
    return judged_digest(
        rows or table.rows, concepts or table.concepts, label="task", positive=positive, audit=audit, options=options
    )


def relabelled(rows):
    return tuple(replace(row, labels={"task": "pos" if row.labels["task"] == "neg" else "neg"}) for row in rows)


def test_what_is_judged_is_rows_with_labels_and_units_roles_and_the_way_to_judge():
    """But neither their order, nor another label column, nor how often is resampled."""
    made = audits()
    rows, first = made.bench.table.rows, judged(made)
    assert first == judged(made, rows=rows[::-1])
    assert first == judged(made, rows=tuple(replace(row, labels={**row.labels, "other": "x"}) for row in rows))
    assert first == judged(made, options=replace(QUICK, resamples=7))
    others = {
        judged(made, rows=relabelled(rows)),
        judged(made, rows=tuple(replace(row, unit=f"u{at // 4}") for at, row in enumerate(rows))),
        judged(made, rows=rows[1:]),
        judged(made, rows=tuple(replace(row, values=(0, *row.values[1:])) for row in rows)),
        judged(made, concepts=(binary("shape", Role.NUISANCE), *CONCEPTS[1:])),
        judged(made, positive="neg"),
        judged(made, audit="other"),
        judged(made, options=replace(QUICK, margin=0.1)),
        judged(made, options=replace(QUICK, metric="accuracy")),
        judged(made, options=replace(QUICK, threshold=0.4)),
        judged(made, options=replace(QUICK, gates=GateOptions(leakage=(0.2, 0.3)))),
    }
    assert len(others - {first}) == 11


def key(
    made,
    *,
    table=None,
    positive=None,
    origin=None,
    target="",
    policy=None,
    options=QUICK,
    card=0.9,
    seed="demo",
    concepts=("ruler",),
):
    """Of what is kept of this model's audits."""
    last = replace(made.audited, provenance=replace(made.audited.provenance, **(origin or {})), version=target or "1")
    model = SimpleNamespace(label="task", positive=positive)
    config = SimpleNamespace(
        analysis=options, diffex=None, report="r", audit=seed, bank=SimpleNamespace(path="b"), detector=SimpleNamespace(table=True)
    )
    installation = SimpleNamespace(
        loaded=SimpleNamespace(policy=policy or made.policy, config=config),
        detector=SimpleNamespace(card=SimpleNamespace(auroc={"ruler": card, "mark": None})),
    )
    tests = SelfTests(installation, None, Asked(sizes=(0.0,), runs=1))
    prepared = _Prepared(
        last=last,
        model=model,
        labels=("neg", "pos"),
        wanted=Wanted(concepts=concepts),
        table=table or made.bench.table,
        class_name="pos",
    )
    return prepared.kept(tests).key


def test_whatever_decides_an_outcome_is_in_the_key_of_what_is_kept(monkeypatch):
    made = audits()
    table, first = made.bench.table, key(made)
    assert first == key(made)
    others = [
        key(made, table=replace(table, rows=relabelled(table.rows))),
        key(made, table=replace(table, rows=tuple(replace(row, unit="one") for row in table.rows))),
        key(made, table=replace(table, real=table.baseline)),
        key(made, positive="pos"),
        key(made, origin={"bank_digest": "other"}),
        key(made, origin={"detector": "other"}),
        key(made, target="2"),
        key(made, policy=default_policy()),
        key(made, options=replace(QUICK, margin=0.1)),
        key(made, options=replace(QUICK, resamples=50)),
        key(made, card=0.8),
        key(made, seed="other"),
        key(made, concepts=("mark",)),
    ]
    monkeypatch.setattr(_Prepared, "_rows_file", lambda *_: b"other rows of the concept tree")
    others.append(key(made))
    assert len({first, *others}) == 1 + len(others)


def test_runs_that_did_not_work_are_counted_and_say_nothing_of_false_findings():
    made = audits()
    cells = (Cell(concept="", size=0.0, repeat=0), Cell(concept="", size=0.0, repeat=1), Cell(concept="ruler", size=3.0, repeat=0))
    wanted = Wanted(concepts=("ruler",), sizes=(0.0, 3.0), runs=2)
    told = concluded(made, wanted, [Outcome(cell=cell, found={}, broken=cell.repeat == 0) for cell in cells], class_name="pos")
    one = told.concept("ruler")
    assert (told.broken, told.runs, told.false_runs, one.runs) == (2, 3, 1, 1)
    assert [(point.broken, point.runs, point.known) for point in one.curve().points] == [(1, 2, True), (1, 1, False)]


def test_a_concept_that_no_threshold_could_accuse_has_no_curve_of_findings():
    made = audits(policy=Policy(name="none", thresholds=()))
    told = concluded(
        made,
        Wanted(concepts=("ruler",), sizes=(0.0,), runs=1),
        [Outcome(cell=Cell(concept="", size=0.0, repeat=0), found={})],
        class_name="pos",
    )
    assert not told.concept("ruler").accusable
    assert [curve.part for curve in told.concept("ruler").curves] == [Part.SEEN]
    assert any("could ever accuse ruler" in note for note in told.notes)
    core = audits(concepts=("shape",))
    told = concluded(
        core,
        Wanted(concepts=("shape",), sizes=(0.0,), runs=1),
        [Outcome(cell=Cell(concept="", size=0.0, repeat=0), found={})],
        class_name="pos",
    )
    assert not told.concept("shape").accusable


def test_severed_flips_have_the_noise_of_placebos_whatever_the_model_does_with_the_concept():
    """They answer as their own baselines, each changed by what some row's placebo changes."""
    bench = audits(relies=3.0).bench
    at, none = np.arange(len(bench.table.rows)), np.zeros(len(bench.log_odds))
    table, made = _severed(bench, bench.table, "mark", at=at, shift=none, rng=np.random.default_rng(0))
    log_odds = {name: math.log(vector[1] / vector[0]) for name, vector in made.items()}
    level, row = np.nonzero(np.isin(table.flips["mark"], list(made)))
    base = bench.log_odds[bench.table.baseline[row].astype(int)]
    noise = np.array([log_odds[name] for name in table.flips["mark"][level, row].tolist()]) - base
    assert np.abs(noise[:, None] - bench.placebo[None, :]).min(1).max() < 1e-6
    assert noise.std() == pytest.approx(bench.placebo.std(), rel=0.3)
    assert len(set(noise.round(9).tolist())) > 30


def test_an_effect_goes_the_way_in_which_the_concept_goes_along_with_the_label():
    """A level that is rarer with the class lowers its log-odds."""
    signs = [audits(truth=(2, weight, 0)).bench.signs["ruler"] for weight in (2, -2)]
    assert sorted(signs) == [-1.0, 1.0]
    bench = audits(truth=(2, -2, 0)).bench
    own = np.array([row.labels["task"] == "pos" for row in bench.table.rows])
    shift = bench.shows["ruler"][bench.table.baseline.astype(int)]
    assert shift[own].mean() > shift[~own].mean()


def test_it_speaks_of_the_same_version_bank_and_policy_alone(tmp_path):
    made = audits()
    outcome = made.outcome(Cell(concept="", size=0.0, repeat=0))
    told = concluded(made, Wanted(concepts=("ruler",), sizes=(0.0,), runs=1), [outcome], class_name="pos")
    origin = replace(made.audited.provenance, policy_digest=made.policy.digest, judged_digest=judged(made))
    audited = replace(made.audited, provenance=origin)
    assert holds(told, audited)
    assert not holds(told, replace(audited, version="2"))
    assert not holds(told, replace(audited, provenance=replace(origin, bank_digest="other")))
    assert not holds(told, replace(audited, provenance=replace(origin, policy_digest="other")))
    assert not holds(told, replace(audited, provenance=replace(origin, detector="another")))
    assert not holds(None, audited)
    old = replace(told, judged_digest="")
    assert not holds(old, replace(audited, provenance=replace(origin, judged_digest="")))
    keep(tmp_path, told)
    assert known_selftest(tmp_path, told.model, told.version, told.label) == told
    assert known_selftest(tmp_path, told.model, "2", told.label) is None
    assert from_json(to_json(told)) == told
    with pytest.raises(StoreError, match="not a self-test"):
        from_json("{}")
