# ruff: noqa: PLR0917  # signatures are those of torch's functions
"""Attention as exporters and runtimes want it: over four axes, with statistics in float32."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engines.graphs.islands import HALF
from engines.graphs.separable import real_tensors


def with_heads(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Of one head where no axis is for heads: the operator has four axes."""
    if query.ndim == 3:
        return with_heads(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), *args, **kwargs).squeeze(1)
    return functional.scaled_dot_product_attention(query, key, value, *args, **kwargs)


def written_out(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """In half precision two products around a softmax in float32; both factors are scaled, lest their product overflow."""
    if query.dtype not in HALF or dropout_p or enable_gqa:
        return with_heads(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    root = math.sqrt(scale if scale is not None else query.shape[-1] ** -0.5)
    scores = ((query * root) @ (key * root).transpose(-2, -1)).float()
    if is_causal:
        with real_tensors():
            attn_mask = torch.ones(int(query.shape[-2]), int(key.shape[-2]), dtype=torch.bool).tril()
    if attn_mask is not None:
        hides = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, torch.finfo(torch.float32).min) if hides else scores + attn_mask.float()
    return scores.softmax(-1).to(query.dtype) @ value
