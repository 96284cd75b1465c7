"""Cross-attention maps of a UNet2DConditionModel in torch, as LEDITS++ reads them: where each token of a prompt is looked for.

The layers of the "down" and "up" blocks whose maps have a quarter of the latents' height and width (16 x 16 for 64 x 64), or the nearest
size that has any.  Recording only watches: what the network computes is what its own processors compute.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engines.errors import UnsupportedPipelineError

_WANTED = 2
"""Halvings of the latents' size at which maps are read."""


@dataclass(eq=False)
class AttentionRecord:
    """Maps of a network's last call (:class:`engines.editing.masks.AttentionMaps`)."""

    halvings: int
    """How often the latents' height and width are halved where maps are read."""
    layers: tuple[str, ...]
    """Names of the layers that are read."""
    _size: tuple[int, int] = (0, 0)
    _seen: list[Float[Tensor, "rows q tokens"]] = field(default_factory=list)

    def __call__(self) -> Float[Tensor, "rows tokens h w"]:
        """Mean over heads and layers.  Raises ValueError where the network was not called yet."""
        if not self._seen:
            raise ValueError("no attention was recorded; call the network, in torch, before asking for its maps")
        height, width = self._size
        for _ in range(self.halvings):
            height, width = -(-height // 2), -(-width // 2)
        maps = torch.stack(self._seen).mean(0)
        return maps.transpose(1, 2).reshape(len(maps), -1, height, width)

    def begin(self, size: tuple[int, int]) -> None:
        """Forget the call before; ``size`` is that of the latents of the next."""
        self._size, self._seen = size, []

    def add(self, maps: Float[Tensor, "rows q tokens"]) -> None:
        """One layer of the present call."""
        self._seen.append(maps)


@contextmanager
def recorded(unet: Any) -> Iterator[AttentionRecord]:
    """Watch a UNet2DConditionModel's cross-attention while the context lasts.

    Raises UnsupportedPipelineError for a network without cross-attention in its "down" and "up" blocks.
    """
    by_halvings = _cross_attention(unet)
    if not by_halvings:
        raise UnsupportedPipelineError(
            "the network has no cross-attention in its down and up blocks; edit it without attention maps"
        )
    halvings = min(by_halvings, key=lambda each: (abs(each - _WANTED), each))  # of two equally near the finer one
    layers = by_halvings[halvings]
    record = AttentionRecord(halvings, tuple(layers))
    own = {name: layer.processor for name, layer in layers.items()}
    hook = unet.register_forward_pre_hook(_beginning(record), with_kwargs=True)
    for name, layer in layers.items():
        layer.processor = _Watching(own[name], record)
    try:
        yield record
    finally:
        hook.remove()
        for name, layer in layers.items():
            layer.processor = own[name]


@dataclass(frozen=True, eq=False)
class _Watching:
    """A layer's own processor, with its probabilities written down."""

    own: Any
    record: AttentionRecord

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **options: Any) -> Any:
        if encoder_hidden_states is not None:
            self.record.add(_probabilities(attn, hidden_states, encoder_hidden_states))
        return self.own(attn, hidden_states, encoder_hidden_states, **options)


@torch.no_grad()
def _probabilities(attn: Any, states: Float[Tensor, "rows q c"], told: Float[Tensor, "rows tokens d"]) -> Tensor:
    """Softmax of queries against keys, mean over heads (rows q tokens), in float32."""
    query, key = (_by_head(each.float(), attn.heads) for each in (attn.to_q(states), attn.to_k(told)))
    probabilities: Tensor = (query @ key.transpose(2, 3) * attn.scale).softmax(-1).mean(1)
    return probabilities


def _by_head(x: Float[Tensor, "rows n c"], heads: int) -> Float[Tensor, "rows heads n d"]:
    return x.view(len(x), -1, heads, x.shape[2] // heads).transpose(1, 2)


def _beginning(record: AttentionRecord) -> Callable[[Any, tuple[Any, ...], Mapping[str, Any]], None]:
    def hook(_: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        sample = given[0] if given else named["sample"]
        record.begin((int(sample.shape[-2]), int(sample.shape[-1])))

    return hook


def _cross_attention(unet: Any) -> dict[int, dict[str, Any]]:
    """Cross-attention layers by how often their maps' sides are halved; diffusers calls them ``attn2``."""
    depth = len(unet.config.block_out_channels)
    found: dict[int, dict[str, Any]] = {}
    for name, layer in unet.named_modules():
        side, _, rest = name.partition(".")
        if name.endswith(".attn2") and side in {"down_blocks", "up_blocks"}:
            block = int(rest.partition(".")[0])
            found.setdefault(block if side == "down_blocks" else depth - 1 - block, {})[name] = layer
    return found
