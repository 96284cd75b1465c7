"""Is an engine good enough to be served?  By its certificate; gradients of networks with kinks by what float32 allows at all."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.certificate import GRADIENT_LIMITS, Certificate
from engines.engine import Engine
from engines.errors import ParityError
from engines.parity import Feeds, certify, relative_error

COPIES = 4
"""Slightly changed copies of every batch on which the reference's own gradients are measured."""


def judged(engine: Engine, module: nn.Module, batches: Sequence[Feeds]) -> Certificate:
    """The engine's certificate.  Raises ParityError for one that does not pass.

    The gradient of a piecewise linear network jumps where a ReLU or a maximum is undecided.  A deep one has such places within the rounding
    of almost every input: torch's float32 gradient then differs from its float64 one by more than the certificate's bound, and no
    runtime can be held to that bound.  It is held to the bound of bf16 instead.
    """
    certificate = certify(engine, EagerBackend().build(module, engine.spec.at("fp32")), batches)
    if certificate.passed or (engine.spec.gradients and _excused(certificate, module, batches)):
        return certificate
    raise ParityError(f"backend {engine.backend!r} is not certified for {engine.spec.name!r}: {certificate.failure}")


def _excused(certificate: Certificate, module: nn.Module, batches: Sequence[Feeds]) -> bool:
    bound, least_cosine = GRADIENT_LIMITS["bf16"]
    error, cosine = certificate.gradient_error or 0.0, certificate.gradient_cosine or 0.0
    scores = replace(certificate, gradient_error=None, gradient_cosine=None, batch_error=0.0)
    near = max(error, certificate.batch_error) <= bound and cosine >= least_cosine
    return scores.passed and near and gradient_noise(module, batches) > GRADIENT_LIMITS["fp32"][0]


def gradient_noise(module: nn.Module, batches: Sequence[Feeds]) -> float:
    """Largest relative error of the module's gradients, its last output, in float32 against float64, at the batches and close by."""
    exact, chance = copy.deepcopy(module).double(), torch.Generator().manual_seed(0)
    worst = 0.0
    for feeds in batches:
        x, *others = feeds.values()
        for _ in range(COPIES):
            near = x + 1e-6 * x.abs().mean() * torch.randn(x.shape, generator=chance)
            with torch.no_grad():
                single = module(near, *others)[-1]
                right = exact(near.double(), *(each.double() for each in others))[-1]
            worst = max(worst, relative_error(single, right))
    return worst
