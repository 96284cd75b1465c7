"""A noise network becomes a directory from the command line, or one line says why not."""

import json

import numpy as np
import pytest

from tests.engines.pipelines.exported import write


@pytest.fixture
def schedule(tmp_path):
    np.savez(tmp_path / "s.npz", betas=np.linspace(1e-3, 0.1, 50))
    return f"{tmp_path / 's.npz'}:betas"


def test_it_writes_the_card(run, tmp_path, schedule):
    told = ("--range", "0,0.5", "--time-scale", "0.02", "--betas", schedule, "--steps", "20", "-o", "json")
    answer = run("generator", "import", write(tmp_path / "n.onnx"), "--out", tmp_path / "made", *told)
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["timesteps"] == 50
    card = json.loads((tmp_path / "made" / "audit.json").read_text())
    assert (card["steps"], card["denoiser"]["range"], card["denoiser"]["size"]) == (20, [0.0, 0.5], [8, 8])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--alpha-bars", "s.npz"), 2, "give the file and the array's key, such as s"),
        (("--range", "1"), 2, "give two numbers with a comma"),
        (("--image", "noisy"), 3, "has no input 'noisy'; it has x, t"),
        (("--time-scale", "5"), 3, "does not find the noise"),
    ],
)
def test_what_is_wrong_is_one_line(run, tmp_path, options, code, message):
    answer = run("generator", "import", write(tmp_path / "n.onnx"), "--out", tmp_path / "made", *options)
    assert (answer.exit_code, message in answer.stderr) == (code, True), answer.stderr
    assert not (tmp_path / "made").exists()
