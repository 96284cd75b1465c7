"""Noise networks from ONNX files draw what they would draw in their own units, and say what is wrong with a directory."""

import json
import shutil

import numpy as np
import pytest
import torch

from engines.directory import directory_digest, picture_side
from engines.errors import DigestError, PipelineError
from engines.guided.canvas import Canvas
from engines.noise import start_noise
from engines.pipeline import load_pipeline
from engines.pipelines.importing import import_denoiser
from tests.engines.pipelines.exported import SIZE, SLOPE, predicted, write

BETAS = np.linspace(1e-3, 0.1, 50)
BARS = np.cumprod(1 - BETAS)
LINEAR = {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.1, "num_train_timesteps": 50}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images in 0..0.5, times in 50ths, a table of alpha bars."""
    folder = tmp_path_factory.mktemp("exported")
    np.savez(folder / "schedule.npz", bars=BARS, betas=BETAS)
    import_denoiser(
        write(folder / "n.onnx"), folder / "made", schedule={"alpha_bars": "bars"}, table=folder / "schedule.npz",
        range=(0.0, 0.5), time_scale=0.02, plan={"steps": 50},
    )  # fmt: skip
    return folder / "made"


@pytest.fixture
def copy(made, tmp_path):
    """The directory, with another card."""

    def change(**card):
        folder = shutil.copytree(made, tmp_path / "copy")
        audit = json.loads((folder / "audit.json").read_text())
        audit["denoiser"] |= card
        (folder / "audit.json").write_text(json.dumps(audit))
        return folder

    return change


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "batch": 4, **options})


def own_ddim(seeds):
    """Deterministic sampling by the published formula, in the network's own units, from the noise that the pipeline starts from."""
    middle = 0.25 * np.sqrt(BARS[-1])
    x = middle + start_noise(seeds, (1, SIZE, SIZE)) * np.sqrt(1 - BARS[-1] + middle**2)  # as of data in [-1, 1] of unit variance
    for i in reversed(range(50)):
        eps = predicted(x.float(), torch.full((len(x),), i * 0.02))
        clean = ((x - np.sqrt(1 - BARS[i]) * eps) / np.sqrt(BARS[i])).clamp(0, 0.5)
        eps = (x - np.sqrt(BARS[i]) * clean) / np.sqrt(1 - BARS[i])
        before = BARS[i - 1] if i else 1.0
        x = np.sqrt(before) * clean + np.sqrt(1 - before) * eps
    return x.clamp(0, 0.5) * 2


def test_it_is_drawn_as_in_its_own_units(made):
    """Converting schedule, range and time changes no picture: DDIM by hand, beside the pipeline."""
    pipeline = load(made)
    images = pipeline.generate(None, [3, 5])
    assert (pipeline.family.name, images.shape, picture_side(made)) == ("exported", (2, 3, SIZE, SIZE), SIZE)
    np.testing.assert_allclose(images, own_ddim([3, 5]).expand(-1, 3, -1, -1).numpy(), atol=2e-4)
    assert len(np.unique(images.round(3))) > 20


@pytest.mark.parametrize("told", [{"names": ("t", "time", "y")}, {"column": True}, {"whole": True, "slope": 0.02 * SLOPE}])
def test_names_and_times_of_other_kinds(made, tmp_path, told):
    """Another name, times as a column, whole times: the same pictures."""
    names, scale = told.get("names", ("x", "t", "eps")), 1.0 if "whole" in told else 0.02
    file = write(tmp_path / "n.onnx", **told)
    found = import_denoiser(file, tmp_path / "made", schedule=LINEAR, range=(0.0, 0.5), time_scale=scale)
    assert (found.image, found.time, found.output, found.timesteps) == (*names, 50)
    np.testing.assert_allclose(
        load(found.directory, steps=10).generate(None, [1]), load(made, steps=10).generate(None, [1]), atol=1e-5
    )


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_other_predictions_are_converted(copy, prediction):
    """What the network means by its output, read off in its own units, is what the pipeline's clean estimate says."""
    pipeline = load(copy(prediction=prediction, clip=False))
    t, x = torch.tensor([0, 20, 49]), torch.randn(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    bars = torch.from_numpy(BARS)[t].view(-1, 1, 1, 1).float()
    ours = pipeline.diffusion.alpha_bar(t, 3).view(-1, 1, 1, 1).float()
    theirs = bars.sqrt() * (0.25 * x / ours.sqrt() + 0.25)
    out = predicted(theirs, t * 0.02)
    clean = out if prediction == "sample" else bars.sqrt() * theirs - (1 - bars).sqrt() * out
    found = pipeline.diffusion.x0(x, t, pipeline.told(None, 3))
    torch.testing.assert_close(found, (clean - 0.25) / 0.25, atol=2e-4, rtol=1e-4)


def test_gradients_go_through_it(made):
    """In the image, as guided edits need them: the adjoint of the network that was written, and grey pictures come in as RGB."""
    pipeline = load(made)
    encoded = Canvas(pipeline).encoded(np.full((2, 3, SIZE, SIZE), 0.75, np.float32))
    assert (encoded.shape, float(encoded.mean())) == ((2, 1, SIZE, SIZE), 0.5)
    leaf = encoded.requires_grad_()
    out = pipeline.diffusion.differentiable(leaf, torch.tensor([7.0, 7.5]), pipeline.told(None, 2))
    (found,) = torch.autograd.grad(out[:, 0, 4, 4].sum(), leaf)
    assert (found[0] != 0).sum() == 9


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"image": "noisy"}, "has no image 'noisy'; it has x, t: set `denoiser.image`"),
        ({"output": "y"}, "has no output 'y'; it has eps: set `denoiser.output`"),
        ({"channels": 3}, r"takes float \(n, 1, 8, 8\) as 'x', its card says \(n, 3, 8, 8\)"),
        ({"size": [16, 16]}, r"its card says \(n, 1, 16, 16\)"),
        ({"range": [1, 0]}, "black below white"),
        ({"scale": 2}, "unknown scale; it may hold channels"),
        ({"prediction": "noise"}, "`prediction` is one of epsilon"),
        ({"schedule": {"file": "schedule.npz", "alpha_bars": "abar"}}, "has no array 'abar'; it has bars, betas"),
        ({"schedule": {"file": "schedule.npz", "alpha_bars": "betas"}}, "must fall from entry to entry"),
        ({"schedule": {"file": "schedule.npz"}}, "one of alpha_bars and betas"),
        ({"schedule": {"file": "../schedule.npz", "betas": "betas"}}, "must lie in the directory itself"),
        ({"schedule": {"beta_schedule": "steep"}}, "'steep' is unknown"),
        ({"schedule": {"betas": "linear"}}, "betas is none of them"),
        ({"file": "other.onnx"}, "other.onnx is missing"),
    ],
)
def test_what_does_not_fit_is_said(copy, card, message):
    with pytest.raises(PipelineError, match=message):
        load(copy(**card))


def test_a_pin_covers_the_card(made, copy):
    """Another range draws other pictures, so it is another directory."""
    pin = directory_digest(made)
    assert load(made, pin=pin).digest == pin
    with pytest.raises(DigestError):
        load(copy(range=[-1.0, 1.0]), pin=pin)


def test_half_precision_is_refused(made):
    with pytest.raises(PipelineError, match="use fp32 or tf32"):
        load(made, precision="bf16")


def test_an_import_tries_the_network(made, tmp_path):
    """One that does not find noise in noise was told something wrong; nothing is written then, nor over what is there."""
    blind = write(tmp_path / "blind.onnx", weight=np.zeros((1, 1, 3, 3), np.float32))
    with pytest.raises(PipelineError, match="does not find the noise"):
        import_denoiser(blind, tmp_path / "out", schedule=LINEAR)
    assert not (tmp_path / "out").exists()
    with pytest.raises(PipelineError, match="is there already"):
        import_denoiser(blind, made, schedule=LINEAR)
