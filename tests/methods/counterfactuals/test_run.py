"""A whole run over a real store: who flips, on whose word, and what is told of it."""

import numpy as np
import pytest

from audit_plugin.methods.counterfactuals import run
from tests.methods.counterfactuals.editing import LABELS, TOLD, Editor, Lamps, Server, explained, scores


def test_every_image_is_told_with_its_figures(tmp_path):
    """The editor reaches every target; what it cost and how far it went is with each item."""
    result = explained(tmp_path, Editor(), lamps=Lamps())
    assert (result.method, result.rung, result.rung_said) == (TOLD.method, TOLD.rung, TOLD.rung_said)
    assert [item.image for item in result.items] == [f"i{at}" for at in range(6)]
    assert all(item.flipped and item.target != item.original for item in result.items)
    assert all(item.after > 0.5 > item.before for item in result.items)
    assert (result.items[0].label, result.items[1].label) == ("dark", "")
    found = result.figures
    assert (found.images, found.flips, found.flip_ratio.value, found.network_rows, found.queries) == (6, 6, 1.0, 14, 2)
    assert found.median_l1 == pytest.approx(np.median([item.l1 for item in result.items]))
    assert found.seconds > 0
    assert "fastdime (gradient: twin) flips 100% of 6 images" in result.summary


def test_pictures_that_are_there_are_counted_and_took_no_time(tmp_path):
    server = Server()
    first = explained(tmp_path, Editor(), server=server)
    asked = server.asked, server.searched
    again = explained(tmp_path, None, server=server)
    assert again.items == first.items
    assert again.figures.seconds is None
    assert (server.asked, server.searched) == asked


def test_after_a_kill_the_pace_is_that_of_the_pictures_made_now(tmp_path, monkeypatch):
    """Three of six pictures are there; the others take a second each by the clock, and so does every flip."""
    with pytest.raises(KeyboardInterrupt):
        explained(tmp_path, Editor(lives=1))
    ticks = iter([100.0, 103.0])
    monkeypatch.setattr(run, "monotonic", lambda: next(ticks))
    found = explained(tmp_path, Editor()).figures
    assert (found.flips, found.seconds) == (6, pytest.approx(1.0))


def test_only_the_stored_bytes_count(tmp_path):
    """The search was told of flips that 8 bits undo: the editor's pictures lie above the threshold by less than half a level."""

    def steep(images):
        """Asked about floats it sees a difference that no stored picture has."""
        bright = np.asarray(images, np.float64).mean((1, 2, 3)) > 166.1 / 255
        return np.stack([np.full(len(images), 0.2), np.where(bright, 0.1, 0.7), np.where(bright, 0.7, 0.1)], 1)

    class Edge(Editor):
        def __call__(self, images, seeds, targets, ask):
            found = super().__call__(images, seeds, targets, ask)
            object.__setattr__(found, "images", np.full_like(images, 166.4 / 255))
            assert (ask(found.images, np.arange(len(images))).argmax(1) == 2).all()
            return found

    result = explained(tmp_path, Edge(), server=Server(tells=steep), wanted={"middle": "bright"}, n=6)
    assert not any(item.flipped for item in result.items)
    assert (result.figures.flips, result.figures.median_l1, result.figures.jpeg_ratio) == (0, None, None)
    assert [item.jpeg for item in result.items] == [None] * 6
    assert not any(item.free for item in result.items)


def test_failures_are_shown_with_their_best_try(tmp_path):
    result = explained(tmp_path, Editor(short=True))
    missed = [item for item in result.items if not item.flipped]
    assert missed
    assert all(item.after_sha256 and item.after < 0.5 for item in missed)
    assert result.figures.flip_ratio.value == pytest.approx(1 - len(missed) / 6)


def test_paths_are_followed_for_the_nearest_and_the_farthest(tmp_path):
    """Two of them; each begins with the image's probability and ends with the picture's."""
    result = explained(tmp_path, Editor(), paths=2)
    walked = [item for item in result.items if item.path]
    distances = sorted(item.l1 for item in result.items)
    assert sorted(item.l1 for item in walked) == [distances[0], distances[-1]]
    assert all(item.path[0] == pytest.approx(item.before) and item.path[-1] == pytest.approx(item.after) for item in walked)
    assert result.figures.cout is not None
    assert explained(tmp_path / "none", Editor(), paths=0).figures.cout is None


def test_paths_of_a_server_whose_rounding_exceeds_one_are_followed(tmp_path):
    sure = Server(tells=lambda images: np.eye(3)[scores(images).argmax(1)] * (1 + 1e-7))
    result = explained(tmp_path, Editor(), server=sure)
    assert -1 <= result.figures.cout <= 1
    assert all(0 <= p <= 1 for item in result.items for p in item.path)


def test_what_changes_along_is_read_by_an_independent_judge(tmp_path):
    """A lamp that is lit in every picture that is to be bright is what changes along most; without detectors nothing is said."""
    wanted = {"dark": "bright", "bright": "dark"}
    result = explained(tmp_path, Editor(switches=True), lamps=Lamps(), wanted=wanted, n=10)
    (gap,) = result.gaps
    assert gap.attribute == "lamp=on"
    assert gap.r > 0.5
    assert result.notes == ()
    blind = explained(tmp_path, None, wanted=wanted, n=10)
    assert blind.gaps == ()
    assert "no detectors" in blind.notes[0]


@pytest.mark.parametrize(("wanted", "each"), [("runner_up", 1), ("all", 2), ({"dark": ("middle", "bright")}, None)])
def test_images_have_one_target_or_several(tmp_path, wanted, each):
    """Figures count images; items are pairs of image and target."""
    result = explained(tmp_path, Editor(), wanted=wanted)
    asked = {f"i{at}": [item.target for item in result.items if item.image == f"i{at}"] for at in range(6)}
    if each is not None:
        assert {len(found) for found in asked.values()} == {each}
    else:
        assert asked["i0"] == ["middle", "bright"]
        assert len(asked["i3"]) == 1
    assert result.figures.images == 6
    assert result.figures.flips == len(result.items)
    assert all(item.target in LABELS and item.target != item.original for item in result.items)


def test_answers_of_the_server_decide_about_jpeg_too(tmp_path):
    """A model that is sure of nothing but exact bytes loses all its flips to a JPEG."""
    exact = {}

    def brittle(images):
        keys = [np.rint(image * 255).astype(np.uint8).tobytes() for image in images]
        known = scores(images)
        return np.stack([row if key in exact else np.roll([0.6, 0.3, 0.1], 1) for key, row in zip(keys, known, strict=True)])

    class Noted(Editor):
        def __call__(self, images, *more):
            found = super().__call__(images, *more)
            exact.update({np.rint(image * 255).astype(np.uint8).tobytes(): True for image in [*found.images]})
            return found

    result = explained(tmp_path, Noted(), server=Server(tells=brittle), wanted={"middle": "bright"}, n=4)
    assert result.figures.flips == 4
    kept = [item.jpeg for item in result.items]
    assert result.figures.jpeg_ratio.value == sum(kept) / 4
    assert not all(kept)
