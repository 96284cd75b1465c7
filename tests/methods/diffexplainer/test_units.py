"""Hidden units as subjects."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import TargetOutputError
from audit_plugin.methods.diffexplainer.units import READ, UnitReader, activations, unit_words, usual
from tests.bank.world import FakeScores

RAW = np.random.default_rng(0).normal([1.0, -2.0, 5.0], [2.0, 1.0, 0.0], (200, 3))


def reader(asked):
    """Of a model whose three units answer the first three pixels of a picture."""

    def ask(images):
        asked.append(len(images))
        return images[:, 0, 0, :3].astype(float)

    return UnitReader(output="view", units=(2, 0), ask=ask, usual=usual(RAW[:, [2, 0]]))


def load(shas):
    return np.stack([np.full((3, 2, 4), float(sha), np.float32) for sha in shas])


def test_activations_are_told_in_standard_deviations_of_usual_pictures():
    """High means above their 95th percentile; a unit that never varies counts in its own measure."""
    read = reader([]).read(["5", "1", "9"], load)
    mean, sd = RAW[:, 0].mean(), RAW[:, 0].std(ddof=1)
    assert read.score[:, 1] == pytest.approx((np.array([5, 1, 9]) - mean) / sd)
    assert read.score[:, 0] == pytest.approx([0.0, -4.0, 4.0])
    assert read.taken.tolist() == [[False, value > np.percentile(RAW[:, 0], 95)] for value in (5, 1)] + [[True, True]]


def test_usual_pictures_are_high_in_one_of_twenty():
    known = usual(RAW[:, :2])
    assert ((RAW[:, :2] > known.high).mean(0) <= 0.05).all()
    with pytest.raises(ValueError, match="at least 8 pictures, got 7"):
        usual(RAW[:7])


def test_each_picture_is_asked_about_once():
    """In batches."""
    asked = []
    one = reader(asked)
    shas = [str(at) for at in range(READ + 6)]
    first = one.read([*shas, *shas[:3]], load)
    again = one.read(shas[:4], load)
    assert asked == [READ, 6]
    assert first.score[-3:] == pytest.approx(first.score[:3])
    assert again.score == pytest.approx(first.score[:4])


def test_maps_are_averaged_over_places_and_kept_for_whoever_asks_where():
    """Vectors are themselves; another shape is no unit."""
    maps = np.random.default_rng(1).random((5, 3, 2, 4))
    assert activations(maps, "map") == pytest.approx(maps.mean((2, 3)))
    assert activations(maps[:, :, 0, 0], "view") == pytest.approx(maps[:, :, 0, 0])
    with pytest.raises(TargetOutputError, match=r"tokens answers \(3, 2\) for a picture; units are taken from vectors"):
        activations(maps[..., 0], "tokens")
    known = reader([])
    assert known.heat(2, load(["1"])) is None
    with_maps = replace(known, maps=lambda _images: maps)
    assert (with_maps.heat(2, load(["1"] * 5)) == maps[:, 2]).all()


def test_a_dictionary_names_what_every_unit_answers_most_to_and_leaves_out_constant_ones():
    values = np.array([[5.0, 1.0, 0.0], [5.2, 1.0, 0.1], [0.0, 1.0, 3.0], [0.1, 1.0, 3.1], [0.2, 1.0, 0.0], [0.0, 1.0, 0.1]])
    first, last = unit_words("view", ["sand", "ruler", "dim"], values, most=1)
    assert (first.unit, first.words[0][0]) == ("view[0]", "sand")
    assert (last.unit, last.words[0][0]) == ("view[2]", "ruler")
    assert first.words[0][1] == pytest.approx((values[:2, 0].mean() - values[:, 0].mean()) / values[:, 0].std())


def test_a_unit_that_varies_by_rounding_alone_counts_as_constant():
    told = usual(7 + 1e-9 * np.arange(20.0)[:, None])
    assert told.sd.tolist() == [1.0]


def test_answers_are_kept_and_asked_for_once():
    table, asked = FakeScores(), []

    def ask(images):
        asked.append(len(images))
        return images.mean((2, 3))

    def load(shas):
        return np.stack([np.full((3, 2, 2), float(sha), np.float32) for sha in shas])

    def reader():
        return UnitReader(output="view", units=(1,), ask=ask, usual=usual(np.arange(20.0)[:, None]), table=table, key="units")

    first = reader().read(["1", "2", "1"], load)
    again = reader()
    assert again.missing(["1", "2", "3"]) == ["3"]
    np.testing.assert_array_equal(again.read(["1", "2", "1"], load).score, first.score)
    assert asked == [2]
