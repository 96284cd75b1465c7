"""Words by gradient, then tried: estimates are slopes, gains are what pictures say, and trying all finds the best."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.guided.first_order import FirstOrderOptions, Place, as_in, estimates, first_order
from engines.guided.gradient_path import picture
from engines.guided.prompted import prompted
from engines.pipeline import load_pipeline

CAPTIONS, SEEDS = ["a red circle on the square", "the large circle"], [3, 4]
ALL = FirstOrderOptions(glances=500, candidates=500, per_word=100, per_place=100, checkpointed=False)


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1, steps=2, guidance=1.0)


@pytest.fixture(scope="module")
def told(pipeline):
    return prompted(pipeline, (0,))


def redness(images):
    return 100 * (images[:, 0] - images[:, 1]).mean((1, 2))


def test_an_estimate_is_the_slope_towards_the_word_where_its_place_is_blank(told):
    found = estimates(told, redness, CAPTIONS[:1], SEEDS, fits=lambda _place, _word: True, options=ALL)
    assert list(found)[:2] == [Place("", "a"), Place("a", "red")]
    whole, exact = told.caption(CAPTIONS[0])
    at, word = 4, told.vocabulary.places["small"]
    blank = exact.clone()
    blank[at] = told.vocabulary.table.mean(0)
    step = torch.zeros_like(exact)
    step[at] = 0.02 * (told.vocabulary.table[word] - exact[at])
    with torch.no_grad():
        up, down = (float(redness(picture(whole.generator, blank + sign * step, SEEDS)).mean()) for sign in (1, -1))
    assert float(found[Place("on", "the")][word]) == pytest.approx((up - down) / 0.04, rel=0.05)


def test_gains_are_those_of_pictures_with_the_word_and_the_best_comes_first(pipeline, told):
    told = replace(told, vocabulary=told.vocabulary.only(["blue", "red", "circle", "small"]))
    found = first_order(told, redness, CAPTIONS, SEEDS, draw=pipeline.generate, options=ALL)

    def mean(*captions):
        asked = [caption for caption in captions for _ in SEEDS]
        return redness(torch.from_numpy(pipeline.generate(asked, SEEDS * len(captions))))

    one = next(each for each in found if (each.word, each.place) == ("blue", Place("large", "circle")))
    gains = mean("the large blue") - mean("the large circle")
    assert one.gain == pytest.approx(float(gains.mean()), abs=1e-4)
    assert one.error == pytest.approx(float(gains.std()) / math.sqrt(2), abs=1e-4)
    assert [each.gain for each in found] == sorted((each.gain for each in found), reverse=True)
    both = next(each for each in found if each.place == Place("red", "circle"))
    assert both.pairs == 2
    words = told.vocabulary.words
    assert len(found) == sum(word != each for caption in CAPTIONS for each in caption.split() for word in words)
    few = FirstOrderOptions(glances=12, candidates=4, per_word=20, per_place=20, checkpointed=False)
    drawn, before = [], pipeline.evaluations
    some = first_order(told, redness, CAPTIONS, SEEDS, draw=pipeline.generate, options=few, count=drawn.append)
    assert len(some) == 4
    assert np.mean([each.gain for each in some]) > np.mean([each.gain for each in found])
    assert sum(drawn) == 9 * 2 * 2  # places, looks, steps
    assert pipeline.evaluations - before <= 2 * (
        40 + 2 + 2 * (6 + 2)
    )  # two steps: glances in one caption, candidates with both seeds


def test_words_are_kept_to_places_where_they_were_told(pipeline, told):
    fits = as_in([*CAPTIONS, "a blue square on a circle"])
    found = first_order(told, redness, CAPTIONS[:1], SEEDS, draw=pipeline.generate, fits=fits, options=ALL)
    assert {(each.word, str(each.place)) for each in found} == {
        ("the", "[a]"), ("blue", "a [red]"), ("circle", "a [red]"), ("large", "the [square]"),
    }  # fmt: skip


def test_nothing_is_looked_for_in_nothing(pipeline, told):
    with pytest.raises(ValueError, match="at least one caption"):
        first_order(told, redness, [], SEEDS, draw=pipeline.generate)
