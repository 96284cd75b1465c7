"""Students that guide are held to what the deployed model says: taught again once, then given up, and it is told."""

import numpy as np
import pytest
import torch

from audit_plugin.target.gradients import StudentOptions, Surrogate, WatchedSurrogate, distil, watched
from audit_plugin.target.gradients.watched import FEWEST

OPTIONS = StudentOptions(students=1, widths=(8,), epochs=3, top1=0.5, rises=0.0, times_random=-100.0)
RNG = np.random.default_rng(0)


def bright(images):
    """The deployed model: bright or dark."""
    p = 1 / (1 + np.exp(-20 * (images.mean((1, 2, 3)) - 0.5)))
    return np.stack([1 - p, p], 1)


def pictures(n, at=0.5):
    grey = np.clip(RNG.normal(at, 0.2, (n, 1, 1, 1)), 0, 1)
    return np.broadcast_to(grey, (n, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def students():
    taught = pictures(80)
    return distil(taught, bright(taught), options=OPTIONS)


class Sure:
    """Students that call everything class 1."""

    def __call__(self, images):
        return torch.tensor([[0.0, 9.0]]).expand(len(images), 2)


def gullible(students):
    return Surrogate((Sure(),), students.lesson)


def saw(found, flipped, *, target=1):
    flags = np.asarray(flipped)
    found.saw(pictures(len(flags), 0.1), np.full(len(flags), target), flags)


def test_the_rate_is_of_the_students_own_flips(students):
    """Pictures that they do not take for flips say nothing of transfer; few say nothing at all."""
    found = WatchedSurrogate(surrogate=gullible(students), predict=bright, options=OPTIONS)
    assert str(found) == "no flip of its own yet"
    saw(found, [True] * (FEWEST - 1))
    assert found.rate is None
    saw(found, [False] * 50, target=0)
    assert found.rate is None
    saw(found, [True])
    assert found.rate == 1
    saw(found, [True, False, False, True])
    assert found.rate == pytest.approx(10 / 12)
    assert str(found) == "10 of 12 flips of its own are flips of the deployed model"
    assert (found.notes, found.given_up) == ([], False)


def test_failures_teach_them_again_and_a_second_time_they_are_given_up(students):
    asked = []

    def predict(images):
        asked.append(len(images))
        return bright(images)

    kept = []
    found = WatchedSurrogate(
        surrogate=gullible(students), predict=predict, options=OPTIONS, keep=lambda again, _found: kept.append(again)
    )
    saw(found, [True] * 4 + [False] * 6)
    assert kept == [found.surrogate]
    assert asked[0] == 6
    now, before = found.surrogate.lesson(), students.lesson()
    assert len(now.pictures) == len(before.pictures) + 6
    np.testing.assert_array_equal(now.held_out, before.held_out)
    (note,) = found.notes
    assert "40% of the students' flips were flips of the deployed model (at least 60% are needed)" in note
    assert "taught again with 6 pictures that failed" in note
    assert (found.given_up, found.rate) == (False, None)
    found.surrogate = gullible(students)
    saw(found, [False] * FEWEST)
    assert found.given_up
    assert "given up" in found.notes[1]
    assert "0% of the students' flips transfer after they were taught again" in found.notes[1]


def test_new_students_must_pass_the_tests_of_the_first(students):
    strict = StudentOptions(students=1, widths=(8,), epochs=1, top1=0.5, rises=0.0, times_random=1e9)
    found = WatchedSurrogate(surrogate=gullible(students), predict=bright, options=strict)
    saw(found, [False] * FEWEST)
    assert found.given_up
    assert "does not stand in for the deployed model" in found.notes[1]


def test_what_failed_is_learned(students):
    """A spot that the old students never saw decides; the new ones know it."""
    spotted = pictures(60, 0.8).copy()
    spotted[:, :, 2:6, 2:6] = 0
    told = np.tile([0.95, 0.05], (60, 1))
    more = StudentOptions(students=1, widths=(16,), epochs=25)
    found = WatchedSurrogate(surrogate=gullible(students), predict=lambda images: told[: len(images)], options=more)
    found.saw(spotted, np.ones(60, np.int64), np.zeros(60, bool))
    with torch.no_grad():
        assert float((found(torch.from_numpy(spotted)).argmax(1) == 0).float().mean()) > 0.9


def test_constants_are_those_of_the_specification():
    assert (watched.LEAST_TRANSFER, watched.WINDOW) == (0.6, 50)
