"""Every picture is scored once, whatever dies in between."""

import io
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from audit_plugin.bank.build import build
from audit_plugin.bank.plan import plan
from audit_plugin.bank.real import index_real
from audit_plugin.bank.score import score
from audit_plugin.bank.stream import decoded
from audit_plugin.core.errors import ImageError, TargetOutputError
from tests.bank.world import (
    CONCEPTS,
    SMALL,
    FakeClassifier,
    FakeGenerator,
    FakeScores,
    good,
    new_bank,
    no_dark,
    rows,
    silent,
    small_plan,
)


@pytest.fixture
def bank(tmp_path):
    bank = new_bank(tmp_path / "bank")
    build(bank, small_plan(), FakeGenerator(), good, progress=silent)
    return bank


def with_photos(folder, n=6):
    """Rows whose real images have two sizes."""
    for i in range(n):
        Image.new("RGB", (8 + 4 * (i % 2), 8), (20 * i, 9, 9)).save(folder / f"{i}.jpg")
    return [replace(row, image=str(folder / f"{i}.jpg")) for i, row in enumerate(rows(n))]


def test_scoring_twice_asks_nothing(bank):
    """The second pass sends no image; another version is asked about everything."""
    table, first, second = FakeScores(), FakeClassifier(), FakeClassifier()
    report = score(bank, first, table, progress=silent, batch=5)
    assert report.scored == first.seen == len(bank.usable())
    assert score(bank, second, table, progress=silent).reused == first.seen
    assert second.seen == 0
    second.info = replace(second.info, version="2")
    assert score(bank, second, table, progress=silent).scored == first.seen


def test_the_server_may_die_at_any_batch(bank):
    """Restarting until the end asks about each image once, and gives the scores of an undisturbed pass."""
    whole, table, asked = FakeScores(), FakeScores(), 0
    score(bank, FakeClassifier(), whole, progress=silent)
    while len(table.scores) < len(whole.scores):
        classifier = FakeClassifier(lives=2)
        with suppress(ConnectionError):
            score(bank, classifier, table, progress=silent, batch=4)
        asked += classifier.seen
    assert asked == len(whole.scores)
    assert all((table.scores[key] == whole.scores[key]).all() for key in whole.scores)


def test_the_server_sees_the_stored_pixels(bank):
    """Scores are those of the PNG's own 8-bit pixels."""
    table = FakeScores()
    score(bank, FakeClassifier(), table, progress=silent)
    for (_, sha), scores in table.scores.items():
        pixels = np.asarray(Image.open(io.BytesIO(bank.pictures.get(sha))), np.float32) / 255
        assert scores[1] == pytest.approx(pixels.mean(), abs=1e-6)


def test_refused_pictures_are_not_sent(tmp_path):
    """What the quality filter refused has no score."""
    bank, table = new_bank(tmp_path), FakeScores()
    build(bank, small_plan(), FakeGenerator(), no_dark, progress=silent)
    score(bank, FakeClassifier(), table, progress=silent)
    refused = {image.sha256 for image in bank.images().values() if image.rejected}
    assert refused
    assert not refused & {sha for _, sha in table.scores}


def test_real_images_are_scored_too(tmp_path, bank):
    """They go in batches of one size, under the sha256 of their file."""
    real = index_real(with_photos(tmp_path), progress=silent)
    table, classifier = FakeScores(), FakeClassifier()
    report = score(bank, classifier, table, real=real, progress=silent)
    assert report.scored == len(bank.usable()) + 6
    assert {shape[2:] for shape in classifier.shapes} == {(8, 8), (8, 12)}
    assert table.known(classifier.info.id, real.by_row.values()) == set(real.by_row.values())


def test_a_real_image_that_changed_is_refused(tmp_path):
    """A file is never scored under the name of what it was."""
    real = index_real(with_photos(tmp_path), progress=silent)
    (tmp_path / "0.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    with pytest.raises(ImageError, match=r"0\.jpg.*changed while the audit ran"):
        real.pixels(real.by_row["row-0"])


def test_a_file_that_is_no_image_is_named_by_its_path(tmp_path, bank):
    """The user can find the file that stopped the audit."""
    (tmp_path / "0.jpg").write_text("no picture")
    real = index_real([replace(rows(1)[0], image=str(tmp_path / "0.jpg"))], progress=silent)
    with pytest.raises(ImageError, match=r"0\.jpg.*not a readable"):
        score(bank, FakeClassifier(), FakeScores(), real=real, progress=silent)


def test_rows_without_image_have_none(tmp_path):
    """Only the rows that have an image are indexed; an unreadable one is named."""
    photos = with_photos(tmp_path, 2)
    assert index_real([*photos, *rows(4)[2:]], progress=silent).by_row.keys() == {"row-0", "row-1"}
    with pytest.raises(ImageError, match="nowhere"):
        index_real([replace(photos[0], image=str(tmp_path / "nowhere.jpg"))], progress=silent)


def test_answers_must_match_the_images(bank):
    """A server that drops an answer is found out, not believed."""
    classifier = FakeClassifier()
    classifier.predict = lambda images: np.zeros((len(images) - 1, 2))
    with pytest.raises(TargetOutputError, match="images were sent but"):
        score(bank, classifier, FakeScores(), progress=silent)


def test_many_sizes_stay_in_bounded_memory():
    """With every picture of another size, at most six batches are in memory, and all come out."""
    read, out = [], []

    def load(sha):
        read.append(sha)
        return np.zeros((3, int(sha), 3), np.uint8)

    for shas, images in decoded(map(str, range(1, 101)), load, batch=4):
        out += shas
        assert images.shape == (len(shas), 3, 3, int(shas[0]))
        assert len(read) - len(out) <= 6 * 4
    assert sorted(out) == sorted(read)


def test_plan_of_the_bank_decides_what_is_scored(bank):
    """Pictures of an earlier, larger plan stay in the bank but are not sent."""
    smaller = plan(rows(2), CONCEPTS, generator="fake-1", audit="demo", options=SMALL)
    build(bank, smaller, FakeGenerator(), good, progress=silent)
    classifier = FakeClassifier()
    score(bank, classifier, FakeScores(), progress=silent)
    assert classifier.seen == len(smaller.recipes) < len(bank.images())
