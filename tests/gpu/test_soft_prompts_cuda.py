"""Soft prompts on a GPU, in the precisions that it draws in: the same direction as on the CPU, and prompts that stay float32."""

from pathlib import Path

import pytest
import torch

from engines.guided.gradient_path import reach
from engines.guided.judge import judge_of
from engines.guided.prompted import prompted
from engines.guided.softprompt import activation_gradient, of_class
from engines.guided.softprompt_options import SoftPromptOptions
from engines.pipeline import load_pipeline

ASSETS = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets"
CAPTION = "a small blue circle on grass in bright light"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


def gradient(device: str, precision: str) -> torch.Tensor:
    """Of two pictures' log-probability of a planted class, in the tokens of a caption."""
    pipeline = load_pipeline(ASSETS / "generator", backend="torch", device=device, precision=precision, solver=4)
    told, prompt = prompted(pipeline, (0,)).caption(CAPTION)
    judge = judge_of(ASSETS / "planted" / "lighting_alone.onnx", "probabilities", 64, device)
    options = SoftPromptOptions(cutouts=0)
    at = prompt.to(device)
    return activation_gradient(
        told.generator, of_class(judge, 1), at, [3, 4], reach("full", told.generator.steps), options=options
    )[1].cpu()


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999), ("bf16", 0.9), ("fp16", 0.99)])
def test_the_gradient_points_where_the_cpus_does(precision: str, least: float) -> None:
    """fp16 computes gradients in fp32."""
    ours, theirs = gradient("cuda", precision), gradient("cpu", "fp32")
    assert ours.dtype == torch.float32
    assert float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0)) > least
