"""Every method over a loaded pipeline, pixels and latents: the deployed model has the last word, and what it is asked is counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.guided.asking import Counted
from engines.guided.plan import METHODS, SCORED
from engines.guided.proposing import ProposalPlan, Proposer
from engines.pipeline import load_pipeline
from tests.engines.conftest import write_pipeline
from tests.engines.pipelines import miniatures

PLAN = ProposalPlan(kept=10, signal=0.6, bisections=1, iterations=2, particles=4, steps=4)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return load_pipeline(miniatures.save(miniatures.ddpm, tmp_path_factory.mktemp("ddpm")), backend="torch", threads=1)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return load_pipeline(write_pipeline(tmp_path_factory.mktemp("latents")), backend="torch", threads=1)


def images(pipeline, n=2):
    return np.random.default_rng(0).random((n, *pipeline.image_shape), np.float32)


def judge(shown):
    """Bright or dark, differentiable."""
    odds = 30 * (shown.mean((1, 2, 3)) - 0.5)
    return torch.stack([-odds / 2, odds / 2], 1)


class Server:
    """The same as a deployed model; remembers what it was sent, and may say no to everything."""

    def __init__(self, stubborn=False):
        self.stubborn, self.sent = stubborn, []

    def __call__(self, pictures, rows):
        self.sent += [(int(row), picture) for row, picture in zip(rows, pictures, strict=True)]
        p = judge(torch.from_numpy(pictures)).softmax(1).double().numpy()
        return np.tile([0.9, 0.1], (len(p), 1)) if self.stubborn else p


def proposed(pipeline, method, server, plan=PLAN, **more):
    guide = None if method in SCORED else judge
    return Proposer(pipeline=pipeline, plan=plan).propose(method, images(pipeline), [1, 2], [1, 1], server, judge=guide, **more)


@pytest.mark.parametrize(
    ("kind", "method"),
    [*(("pixels", method) for method in METHODS), *(("latents", method) for method in ("maskdime", "dvce", "polyak", "ensemble"))],
)
def test_pictures_are_whole_bytes_and_every_question_is_counted(request, method, kind):
    """Also of all the stronger and deeper tries that a model which always says no brings about.

    In latents one of each way to search: between, it is the decoder that all of them share.
    """
    server = Server(stubborn=True)
    made = proposed(request.getfixturevalue(kind), method, server, replace(PLAN, kept=6), free=2)
    np.testing.assert_array_equal(made.images, np.rint(made.images * 255).astype(np.float32) / np.float32(255))
    assert made.queries.tolist() == [sum(row == at for row, _ in server.sent) for at in (0, 1)]
    assert (made.attempts > 0).all()
    assert (made.network_rows > 0).all()
    assert not made.success.any()  # whatever the judge says
    assert not made.free.any()


def test_the_deployed_model_accepts_the_delivered_bytes(pixels):
    """What is called a success was answered so, bit for bit; an image that a free variation flips is left at that."""
    server = Server()
    made = proposed(pixels, "dvce", server, free=4)
    for row in np.flatnonzero(made.success):
        asked = [picture for at, picture in server.sent if at == row]
        assert any(np.array_equal(made.images[row], picture) for picture in asked)
        assert server(made.images[row : row + 1], [row])[0, 1] > 0.5
    assert (made.attempts[made.free] == 0).all()


def test_a_method_without_what_it_needs_is_refused(pixels):
    proposer = Proposer(pipeline=pixels, plan=PLAN)
    for method, guide in (("fastdime", None), ("ensemble", judge), ("lime", judge)):
        with pytest.raises(ValueError, match="method"):
            proposer.propose(method, images(pixels), [1, 2], [1, 1], Server(), judge=guide)
    with pytest.raises(ValueError, match="need images"):
        proposer.propose("fastdime", np.zeros((1, 3, 9, 9), np.float32), [1], [1], Server(), judge=judge)


def test_the_floor_is_the_same_again(pixels):
    proposer = Proposer(pipeline=pixels, plan=PLAN)
    first, second = (proposer.kept_class(images(pixels), [1, 2], 0.6) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert proposer.fingerprint != Proposer(pipeline=pixels, plan=ProposalPlan()).fingerprint


def test_a_flip_that_a_jpeg_undoes_is_none():
    """The server is asked about the bytes first, and about the JPEG of those alone that flip."""
    grain = np.full((2, 3, 16, 16), 0.5, np.float32)
    grain[0] += np.float32(0.02) * (-1) ** np.indices((16, 16)).sum(0)

    def ask(pictures, rows):
        asked.append(rows.tolist())
        rough = np.abs(np.diff(pictures, axis=3)).mean((1, 2, 3)) > 0.02
        return np.stack([np.where(rough, 0.1, 0.9), np.where(rough, 0.9, 0.1)], 1)

    for jpeg, told in ((None, 0.9), (20, -0.1)):
        asked: list[list[int]] = []
        counted = Counted(ask, 2, jpeg)
        found = counted.accept(np.arange(2))(torch.from_numpy(grain), torch.tensor([1, 1]), torch.arange(2))
        assert found.tolist() == pytest.approx([told, -0.1])
        assert asked == [[0, 1]] + ([[0]] if jpeg else [])
        assert counted.queries.tolist() == [2 if jpeg else 1, 1]


def test_images_that_nothing_flips_from_the_usual_start_begin_deeper(pixels):
    """And what the first start cost stays counted."""
    plans = [ProposalPlan(kept=10, signal=0.9, deeper=deeper, bisections=0, jpeg=None) for deeper in ((), (0.95, 0.6))]
    once, twice = (
        Proposer(pipeline=pixels, plan=plan).propose("fastdime", images(pixels), [1, 2], [1, 1], Server(stubborn=True), judge=judge)
        for plan in plans
    )
    assert plans[1].starts() == (0.9, 0.6)
    assert (twice.attempts == 2 * once.attempts).all()
    assert (twice.network_rows > 2 * once.network_rows).all()


def test_an_editor_that_takes_words_is_told_the_targets_name(latents, pixels):
    """LDCE then asks the network twice a step, and hears the class gradient where both agree; without words, or names, it does without."""
    plan, made = ProposalPlan(kept=4, signal=0.6, deeper=(), bisections=0, trims=()), {}
    for pipeline in (latents, pixels):
        for names in ((), ("dark", "bright"), ("black", "bright")):
            proposer = Proposer(pipeline=pipeline, plan=plan, names=names)
            made[pipeline, names] = proposer.propose("ldce", images(pipeline, 1), [1], [1], Server(stubborn=True), judge=judge)
    plain, named, other = (made[latents, names] for names in ((), ("dark", "bright"), ("black", "bright")))
    assert named.network_rows == 2 * plain.network_rows
    assert not np.array_equal(named.images, plain.images)
    np.testing.assert_array_equal(named.images, other.images)  # another class goes by another name
    np.testing.assert_array_equal(made[pixels, ("dark", "bright")].images, made[pixels, ()].images)


@pytest.mark.parametrize("method", ["polyak", "dime", "dvce", "ldce"])
def test_a_judge_whose_gradient_is_no_number_flips_nothing_and_stops_nobody(pixels, method):
    """The square root of 0 has no slope; the deployed model is sent pictures all the same."""

    def broken(shown):
        return judge(shown) + (shown - shown.detach()).abs().sum((1, 2, 3)).sqrt()[:, None]

    def ask(pictures, _rows):
        assert np.isfinite(pictures).all()
        return np.tile([0.9, 0.1], (len(pictures), 1))

    plan = ProposalPlan(kept=4, signal=0.6, deeper=(), bisections=0, trims=())
    made = Proposer(pipeline=pixels, plan=plan).propose(method, images(pixels), [1, 2], [1, 1], ask, judge=broken)
    assert np.isfinite(made.images).all()
    assert not made.success.any()


@pytest.mark.parametrize("method", ["polyak", "fastdime"])
def test_what_the_server_called_the_target_is_not_lost_to_a_later_failure(pixels, method):
    """Of four classes one may be the likeliest at 0.4: stronger and deeper tries look for more, and where they find less the first stands."""
    for nth in (0, 2):
        sent = []

        def ask(pictures, _rows, sent=sent, nth=nth):
            sent.append(pictures[0])
            return np.array([[0.2, 0.4, 0.2, 0.2] if len(sent) - 1 == nth else [0.4, 0.2, 0.2, 0.2]])

        plan = ProposalPlan(kept=6, signal=0.8, deeper=(0.3,), bisections=0, jpeg=None, trims=())
        made = Proposer(pipeline=pixels, plan=plan).propose(method, images(pixels, 1), [1], [1], ask, judge=judge)
        assert not made.success[0]
        assert len(sent) > 4
        np.testing.assert_array_equal(made.images[0], sent[nth])
