"""What is asked beside flips: an independent model, and how different the answers of repeated searches are."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.counterfactuals import Made, Wish
from audit_plugin.methods.counterfactuals import figures
from audit_plugin.methods.counterfactuals.diversity import PLAIN, Distance
from audit_plugin.methods.counterfactuals.witness import Witness
from tests.methods.counterfactuals.editing import LABELS, Editor, Server, explained, new_studio, scores
from tests.methods.counterfactuals.flips import flip


def witness(tells, labels=LABELS, *, shown=None):
    """Another model; remembers what it was shown."""

    def answers(shas):
        if shown is not None:
            shown.extend(shas)
        return {sha: tells(sha) for sha in shas}

    return Witness(name="other version 1", labels=labels, answers=answers)


def made(image, target):
    return Made(wish=Wish(image, target), before=f"b{image}", after=f"a{image}", free=False, attempts=1, network_rows=1, queries=1)


def test_a_witness_sees_what_doubles_the_odds_of_the_target():
    """By the name of the class, whatever its column; classes that it does not have are not shown to it."""
    told = {"b0": [0.8, 0.2], "a0": [0.6, 0.4], "b1": [0.8, 0.2], "a1": [0.75, 0.25]}
    shown = []
    found = witness(lambda sha: np.array(told[sha]), ("dark", "bright"), shown=shown)
    assert found.sees([made("0", 2), made("1", 2), made("2", 1)], LABELS) == {"a0": True, "a1": False}
    assert sorted(shown) == ["a0", "a1", "b0", "b1"]
    assert found.sees([], LABELS) == {}


def test_adversarial_are_flips_that_neither_jpeg_nor_the_witness_keeps():
    """Of the flips that it was shown."""
    items = [
        flip(0, jpeg=False, witness=False),
        flip(1, jpeg=True, witness=False),
        flip(2, jpeg=False, witness=True),
        flip(3, jpeg=False, witness=None),
        replace(flip(4), flipped=False, jpeg=None, witness=None),
    ]
    found = figures(items)
    assert (found.adversarial_ratio.value, found.witness_ratio.value) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert figures([items[3]]).adversarial_ratio is None


@pytest.mark.parametrize(("agrees", "share"), [(True, 1.0), (False, 0.0)])
def test_flips_are_shown_to_a_witness(tmp_path, agrees, share):
    """One that looks at brightness too sees them all, one that looks at nothing sees none; it is named in the result."""
    studio = new_studio(tmp_path, None, 6)

    def tells(sha):
        image = studio.pixels(sha).transpose(2, 0, 1)[None] / np.float32(255)
        return scores(image)[0] if agrees else np.full(3, 1 / 3)

    result = explained(tmp_path, Editor(), witness=witness(tells))
    assert result.witness == "other version 1"
    assert result.figures.witness_ratio.value == share
    assert {item.witness for item in result.items} == {agrees}
    assert (result.figures.adversarial_ratio.value == 0) == agrees or all(item.jpeg for item in result.items)


def test_without_a_witness_nothing_is_said_of_one(tmp_path):
    result = explained(tmp_path, Editor())
    assert (result.witness, result.figures.witness_ratio, result.figures.adversarial_ratio) == ("", None, None)


def test_repeated_searches_tell_how_different_answers_are(tmp_path):
    """Two runs that differ in one pixel by a known amount; figures and pictures shown are of the first run alone."""
    server = Server()
    once = explained(tmp_path, Editor(), server=server)
    assert once.diversity is None
    editor = Editor()
    result = explained(tmp_path, editor, server=server, runs=2)
    assert len(editor.seen) == 6  # of the second run; the first is there
    assert result.items == once.items
    found = result.diversity
    assert (found.distance, found.runs, found.images, found.left_out, found.network_rows) == ("l1", 2, 6, 0, 6 * 14)
    assert 0 < found.value < 0.02


def test_images_that_flip_in_some_runs_only_are_left_out(tmp_path):
    """And the distance is called what its maker calls it."""
    first = {seed for seed, _ in _seen(tmp_path / "first")}

    class Fickle(Editor):
        def __call__(self, images, seeds, targets, ask):
            self.short = not set(seeds) & first  # in the second run nothing reaches its target
            return super().__call__(images, seeds, targets, ask)

    far = Distance(name="LPIPS(alex)", between=lambda a, _b: np.full(len(a), 0.7))
    result = explained(tmp_path, Fickle(), runs=2, distance=far)
    missed = sum(not item.flipped for item in result.items)
    assert result.diversity.distance == "LPIPS(alex)"
    assert result.diversity.left_out > 0
    assert result.diversity.images == 6 - result.diversity.left_out
    assert missed == 0
    assert result.diversity.value is None or result.diversity.value == pytest.approx(0.7)


def test_flips_have_a_perceptual_distance_where_a_network_is_named(tmp_path):
    """From their own image, called what its maker calls it; l1 and l2 they always have."""
    plain = explained(tmp_path, Editor())
    assert (plain.figures.median_perceptual, plain.figures.perceptual) == (None, "")
    assert {item.perceptual for item in plain.items} == {None}
    pixels = 3 * 8 * 8
    assert all(item.l2 >= item.l1 * np.sqrt(pixels) > 0 for item in plain.items)  # of equal mean, even changes have the least norm
    assert plain.figures.median_l2 == pytest.approx(np.median([item.l2 for item in plain.items]))
    distance = Distance(name="squeeze", between=lambda a, b: 2 * np.abs(a - b).mean((1, 2, 3)))
    found = explained(tmp_path, Editor(), distance=distance)
    assert [item.perceptual for item in found.items] == pytest.approx([2 * item.l1 for item in found.items], rel=1e-5)
    assert (found.figures.median_perceptual, found.figures.perceptual) == (pytest.approx(2 * found.figures.median_l1), "squeeze")


def _seen(root):
    editor = Editor()
    explained(root, editor)
    return editor.seen


def test_the_plain_distance_is_the_mean_difference():
    first, second = np.zeros((2, 3, 2, 2), np.float32), np.full((2, 3, 2, 2), 0.25, np.float32)
    second[1] = 0
    assert PLAIN.between(first, second).tolist() == [0.25, 0]
