"""Networks together with their gradient in the first input, as plain modules: run as they are, or traced to a graph of operators.

The gradient is taken once, by ``torch.autograd.grad`` inside ``forward``, so that a trace of the module holds the backward formulas and
nothing that could be differentiated again.  Freeze parameters: only inputs have gradients here.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engines.graphs.precision import Half
from engines.precondition import Prediction, estimates

Network = Callable[..., Tensor]
Back = Callable[[Tensor], Tensor]
"""Cotangent of an output to the gradient in the input that it was computed from."""

TINY = 1e-30
"""Below any cotangent worth scaling; keeps a zero one zero."""


class Vjp(nn.Module):
    """A network and its vector-Jacobian product: (x, cotangent, ...) -> (y, J^T cotangent)."""

    NETWORKS: ClassVar = ("network",)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, cotangent: Tensor, *conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """Of x (n ...), cotangent like the output (n ...); what conditions the network has no gradient."""
        y, back = pull_back(self.network, x, *conditioning)
        return y, back(cotangent)


class NegativeLogProbability(nn.Module):
    """-log p(target), one number a row."""

    def forward(self, logits: Float[Tensor, "n k"], images: Float[Tensor, "n c h w"], target: Int[Tensor, " n"]) -> Tensor:
        """Classes are picked by comparison, since the backward of an index is a scatter."""
        chosen = (torch.arange(logits.shape[1], device=logits.device) == target[:, None]).to(logits)
        return -(chosen * logits.log_softmax(1)).sum(1)


class Guided(nn.Module):
    """One guided evaluation: the noise and the clean image that a denoiser sees in x_t, a loss of that image, and the way down from x_t.

    After Dhariwal and Nichol, "Diffusion models beat GANs" (2021), section 4.2, with the classifier at the clean estimate instead of at
    x_t: x_t -> denoiser -> x_0 -> (decoder) -> classifier -> loss.
    """

    NETWORKS: ClassVar = ("denoiser", "classifier", "decoder")

    def __init__(
        self, denoiser: nn.Module, classifier: nn.Module, *, prediction: Prediction = "epsilon", decoder: nn.Module | None = None,
        loss: nn.Module | None = None, terms: int = 0, clip: float | None = None,
    ) -> None:  # fmt: skip
        """Take networks apart, so that each can be cast alone.

        ``loss`` maps (logits, images, target, *terms) to one number a row; ``terms`` says how many inputs after the weight are its own.
        ``clip`` bounds the clean estimate.
        """
        super().__init__()
        self.denoiser, self.classifier, self.decoder = denoiser, classifier, decoder
        self.loss = loss or NegativeLogProbability()
        self.prediction, self.terms, self.clip = prediction, terms, clip

    def forward(
        self, x: Float[Tensor, "n c h w"], t: Float[Tensor, " n"], alpha_bar: Float[Tensor, " n"], target: Tensor,
        weight: Float[Tensor, " n"], *rest: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """(loss (n), eps, x_0, gradient of weight times loss in x_t), the last three like x.  ``rest``: the loss's terms, then conditioning."""
        terms, conditioning = rest[: self.terms], rest[self.terms :]
        prediction, to_x = pull_back(self.denoiser, x, t, *conditioning)
        with torch.enable_grad():
            leaves = x.detach().requires_grad_(), prediction.requires_grad_()
            eps, clean = estimates(self.prediction, *leaves, alpha_bar)
            clean = clean if self.clip is None else clean.clamp(-self.clip, self.clip)
        loss, g_clean = self._judge(clean.detach(), target, weight, terms)
        g_x, g_prediction = torch.autograd.grad(clean, leaves, g_clean, materialize_grads=True)
        return loss, eps.detach(), clean.detach(), g_x + to_x(g_prediction)

    def _judge(self, clean: Tensor, target: Tensor, weight: Tensor, terms: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Loss and its weighted gradient in the clean estimate, back through each network in turn."""
        images, to_clean = pull_back(self.decoder, clean) if self.decoder is not None else (clean, _unchanged)
        logits, to_images = pull_back(self.classifier, images)
        with torch.enable_grad():
            leaves = logits.requires_grad_(), images.detach().requires_grad_()
            loss = self.loss(*leaves, target, *terms)
        g_logits, g_images = torch.autograd.grad(loss, leaves, weight, allow_unused=True)  # of the weighted sum over rows
        parts = [*([to_images(g_logits)] if g_logits is not None else []), *([g_images] if g_images is not None else [])]
        return loss.detach(), to_clean(sum(parts[1:], parts[0]))


def pull_back(network: Network, x: Tensor, *conditioning: Tensor) -> tuple[Tensor, Back]:
    """The network's output and the map from its cotangents to gradients in x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = network(x, *conditioning)

    def back(cotangent: Tensor) -> Tensor:
        return torch.autograd.grad(y, x, cotangent)[0]

    scaled = isinstance(network, Half) and network.dtype == torch.float16
    return y.detach(), at_unit_rms(back) if scaled else back


def at_unit_rms(back: Back) -> Back:
    """The same map, which is linear row by row, fed rows of unit RMS: in float16 small cotangents would drown in rounding."""

    def scaled(cotangent: Tensor) -> Tensor:
        rows = list(range(1, cotangent.ndim))
        rms = cotangent.float().square().mean(rows, keepdim=True).sqrt().clamp(min=TINY)
        gradient = back((cotangent.float() / rms).to(cotangent))
        return gradient.float() * rms.reshape(-1, *[1] * (gradient.ndim - 1))

    return scaled


def _unchanged(gradient: Tensor) -> Tensor:
    return gradient
