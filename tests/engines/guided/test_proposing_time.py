"""Counterfactuals by words: the ladder ends at the first flip, every question is counted, and images do not know of each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.errors import UnsupportedPipelineError
from engines.guided.proposing_time import ClassWords, TimeProposer
from engines.guided.text_inversion import TextInversionOptions
from engines.guided.token_options import TokenOptions
from engines.pipeline import load_pipeline
from tests.engines.pipelines import miniatures

LADDER = TextInversionOptions(ladder=((2, 4.0), (3, 4.0), (5, 6.0), (6, 6.0)), steps=10)
SENTENCES = TokenOptions(tokens=1)


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1)


def proposer(pipeline, same=None, **options):
    def row(seed):
        return (torch.randn(1, 32, generator=torch.Generator().manual_seed(seed)),)

    words = ClassWords(look=row(0), classes={column: row(1 + column) for column in (0, 1)})
    return TimeProposer(
        pipeline=pipeline,
        learned=lambda columns: words if same is None else replace(words, classes=dict.fromkeys(columns, words.classes[same])),
        sentences=SENTENCES,
        options=replace(LADDER, **options),
    )


def images(n=3):
    return np.rint(np.random.default_rng(0).random((n, 3, 16, 16)) * 255).astype(np.float32) / np.float32(255)


class Server:
    """Says 0 of what it was shown first of an image, and 1 from a given question on; labels alone."""

    def __init__(self, flips):
        self.flips, self.sent = flips, []

    def __call__(self, pictures, rows):
        told = []
        for row, picture in zip(rows, pictures, strict=True):
            asked = sum(row == other for other, _ in self.sent)
            self.sent.append((row, picture))
            told.append(1 if asked >= self.flips[row] else 0)
        return np.eye(3)[told]

    def of(self, row):
        return [picture for other, picture in self.sent if other == row]


def test_the_ladder_stops_at_the_first_flip_and_every_question_is_counted(pipeline):
    """One question for the class, one a rung; the picture that flipped is delivered, else the last one."""
    server, before = Server({0: 1, 1: 3, 2: 99}), pipeline.evaluations
    made = proposer(pipeline).propose(images(), [1, 1, 1], server)
    assert made.attempts.tolist() == [1, 3, 4]
    assert made.queries.tolist() == [2, 4, 5] == [len(server.of(row)) for row in range(3)]
    assert made.success.tolist() == [True, True, False]
    for row in range(3):
        np.testing.assert_array_equal(made.images[row], server.of(row)[-1])
        np.testing.assert_array_equal(made.images[row], np.rint(made.images[row] * 255) / np.float32(255))
    # both ways of a rung, less the way up that the rung before has gone with equal strength
    assert made.network_rows.tolist() == [4 * 4, 4 * (4 + 4 + 10), 4 * (4 + 4 + 10 + 7)]
    assert pipeline.evaluations - before == made.network_rows.sum()


def test_going_on_from_the_rung_before_gives_the_same_picture(pipeline):
    went_on = proposer(pipeline, ladder=((2, 4.0), (5, 4.0))).propose(images(1), [1], Server({0: 9}))
    at_once = proposer(pipeline, ladder=((5, 4.0),)).propose(images(1), [1], Server({0: 9}))
    np.testing.assert_array_equal(went_on.images, at_once.images)
    assert went_on.network_rows.tolist() == [4 * (4 + 8)]


def test_images_do_not_know_of_each_other(pipeline):
    """Rungs, targets and classes differ from row to row, and a batch of two is refilled while others climb."""
    flips = {0: 1, 1: 3, 2: 2}
    together = proposer(replace(pipeline, batch=2)).propose(images(), [1, 1, 1], Server(flips))
    for row in range(3):
        alone = proposer(pipeline).propose(images()[row : row + 1], [1], Server({0: flips[row]}))
        assert np.abs(together.images[row] - alone.images[0]).max() <= 1.5 / 255
        assert (together.attempts[row], together.queries[row]) == (alone.attempts[0], alone.queries[0])


def test_words_decide_where_an_image_goes(pipeline):
    """Classes with the same words leave guidance nothing to do; EDICT then gives the image back as the autoencoder does."""
    still, moved = (
        proposer(pipeline, same, ladder=((6, 4.0),)).propose(images(), [1, 1, 1], Server(dict.fromkeys(range(3), 9)))
        for same in (0, None)
    )
    latents = pipeline.codec.encode(2 * torch.from_numpy(images()) - 1)
    back = (pipeline.codec.decode(latents) / 2 + 0.5).clamp(0, 1).numpy()
    assert np.abs(still.images - back).max() <= 1 / 255
    assert np.abs(moved.images - back).max() > 4 / 255


def test_what_needs_or_has_no_words_is_left_alone(pipeline):
    """An image that is its target already, and one whose target nobody learned words for."""
    server, shown = Server({0: 0, 1: 9}), images(2)
    made = proposer(pipeline).propose(shown, [1, 2], server)
    np.testing.assert_array_equal(made.images, shown)
    assert made.success.tolist() == [True, False]
    assert made.attempts.tolist() == made.network_rows.tolist() == [0, 0]
    assert made.queries.tolist() == [1, 1]


def test_a_pipeline_that_takes_no_words_is_refused(pipeline, tmp_path):
    deaf = load_pipeline(miniatures.save(miniatures.ddpm, tmp_path), backend="torch", threads=1)
    with pytest.raises(UnsupportedPipelineError, match="takes none; use a text-to-image directory"):
        replace(proposer(pipeline), pipeline=deaf).propose(np.zeros((1, 3, 8, 8), np.float32), [1], Server({0: 9}))


@pytest.mark.parametrize("wrong", [{"ladder": ()}, {"ladder": ((11, 4.0),)}, {"mixing": 0.4}, {"confidence": 1.0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"rungs|mixing"):
        replace(LADDER, **wrong)
