"""Who guides an edit: a differentiable classifier of ours, never the audited model.

A judge takes decoded images (n 3 h w) in [0, 1] and answers logits (n k).  Which column is wanted, and how hard to push, is not its
business.  A single score l becomes two columns (-l/2, l/2), whose log-odds are l again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engines.errors import ExportError
from engines.serving.onnx_module import OnnxModule

Images = Float[Tensor, "n 3 h w"]
Judge = Callable[[Images], Float[Tensor, "n k"]]
Likeness = Callable[[Images, Images], Float[Tensor, " n"]]
"""(images, originals), both in [0, 1] -> how unlike they are, one number a row, differentiable in the images."""
Push = Literal["log_probability", "log_odds"]
"""What a step raises.  ``log_odds`` never saturates, so it overshoots; the probability's logarithm stops pushing once it is near 0."""


class OnnxJudge(nn.Module):
    """One output of a classifier's ONNX file as a judge.

    Where the output is a softmax over the last axis, its own input is taken: the softmax of the answers is then the file's answer, and a
    class that the file calls impossible (probability 0 in float32) still has a gradient.
    """

    def __init__(self, path: Path, output: str, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a judge looks at images of at least one pixel, got size {size}")
        read = OnnxModule(path, output)
        if not read.nodes or read.nodes[-1].output != output:
            raise ExportError(f"{path} has no output {output!r}; it has {', '.join(each.name for each in read.outputs)}")
        last = read.nodes[-1]
        rank = next((len(each.shape) for each in read.outputs if each.name == output), 2)
        softmax = last.operator == "Softmax" and int(last.attributes.get("axis", -1)) in {-1, rank - 1}
        self.network = OnnxModule(path, last.inputs[0]) if softmax else read
        self.size = size

    def forward(self, images: Images) -> Float[Tensor, "n k"]:
        """Logits; images of another size are resized by a triangle filter as wide as a new pixel, which detectors use as well."""
        if tuple(images.shape[2:]) != (self.size, self.size):
            images = functional.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        logits: Tensor = self.network(images)
        return logits


def judge_of(path: str | Path, output: str, size: int, device: str | torch.device = "cpu") -> OnnxJudge:
    """A judge from a detector's file, e.g. ``judge_of("scenes.onnx", "concept/background", 64)``.

    Raises ExportError for a file, an output or an operator that cannot be read.
    """
    return OnnxJudge(Path(path), output, size).to(device).eval()


def same_answers(judges: Sequence[Judge]) -> Likeness:
    """Unlikeness by what judges of other concepts say: the sum of KL(answer to the original || answer to the image).

    A flip of one concept drags others along; where our detector reads those too, it can hold them.  What it was held by cannot testify
    that it stayed: that takes an independent reader.
    """

    def unlike(images: Images, originals: Images) -> Float[Tensor, " n"]:
        total = images.new_zeros(len(images))
        for judge in judges:
            with torch.no_grad():
                before = judge(originals).log_softmax(1)
            total = total + (before.exp() * (before - judge(images).log_softmax(1))).sum(1)
        return total

    return unlike


def runner_up(logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """The likeliest other class of each row; of two classes the opposite.  ValueError for fewer than two."""
    if logits.shape[1] < 2:
        raise ValueError(
            f"a flip needs two classes, the judge knows {logits.shape[1]}; give a single score l as columns (-l/2, l/2)"
        )
    return logits.topk(2, dim=1).indices[:, 1]


def log_odds(logits: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Of the target's softmax probability, ln p - ln(1 - p): its logit less the log-sum-exp of the others."""
    others = logits.scatter(1, target[:, None], float("-inf"))
    return logits.gather(1, target[:, None])[:, 0] - others.logsumexp(1)


def pushed(push: Push, logits: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What a guided step raises, one number a row."""
    if push not in get_args(Push):
        raise ValueError(f"push {push!r} is unknown; use {' or '.join(get_args(Push))}")
    odds = log_odds(logits, target)
    return odds if push == "log_odds" else functional.logsigmoid(odds)  # ln softmax = ln sigmoid of the log-odds
