"""Self-tests on tables of known truth: what is put in is found from some size on, and nothing where nothing is."""

import math
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.selftest_results import Part, from_json, to_json
from audit_plugin.core.values import Role
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.selftesting.bench import bench_of, drawn
from audit_plugin.selftesting.curve import detection_curve, size_found
from audit_plugin.selftesting.kept import KeptOutcomes, holds, keep, known_selftest
from audit_plugin.selftesting.planted import Cell, Outcome, PlantedAudits
from audit_plugin.selftesting.run import Wanted, concluded, run_cells
from audit_plugin.selftesting.wrapper import EPSILON, answers
from tests.findings.examples import result
from tests.methods.world import Generator, binary, build, linear, score

CONCEPTS = (binary("shape", Role.CORE), binary("ruler", Role.ARTEFACT), binary("mark", Role.NUISANCE))
FLIPS = replace(default_policy().thresholds[0], name="flips", metric="flip_rate_excess", threshold=0.01)
QUICK = DepictOptions(resamples=100, adjusted_resamples=10)


def audits(*, relies=0.0, policy=None, n=120, concepts=("ruler", "mark"), seed=3, obeys=1.0):
    """A model that answers from the shape, and from the mark by ``relies``, with a little noise in every picture."""
    world = build(n, np.random.default_rng(1), linear((2, 0, 0)), concepts=CONCEPTS, generator=Generator(obeys=obeys))
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


def test_it_speaks_of_the_same_version_bank_and_policy_alone(tmp_path):
    made = audits()
    outcome = made.outcome(Cell(concept="", size=0.0, repeat=0))
    told = concluded(made, Wanted(concepts=("ruler",), sizes=(0.0,), runs=1), [outcome], class_name="pos")
    origin = replace(made.audited.provenance, policy_digest=made.policy.digest)
    audited = replace(made.audited, provenance=origin)
    assert holds(told, audited)
    assert not holds(told, replace(audited, version="2"))
    assert not holds(told, replace(audited, provenance=replace(origin, bank_digest="other")))
    assert not holds(told, replace(audited, provenance=replace(origin, policy_digest="other")))
    assert not holds(None, audited)
    keep(tmp_path, told)
    assert known_selftest(tmp_path, told.model, told.version, told.label) == told
    assert known_selftest(tmp_path, told.model, "2", told.label) is None
    assert from_json(to_json(told)) == told
    with pytest.raises(StoreError, match="not a self-test"):
        from_json("{}")
