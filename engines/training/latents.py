"""Pictures as latents of a pipeline's own autoencoder: computed once, kept in the work directory."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from engines.networks import latent_affine
from engines.training import checkpoint
from engines.training.checkpoint import Spent
from engines.training.loop import Report

_AT_ONCE = 4
"""Pictures encoded at once."""


class Pictures(Protocol):
    """Pictures by number."""

    def __len__(self) -> int: ...

    def picture(self, place: int, size: int) -> NDArray[np.uint8]:
        """``(size, size, 3)`` RGB."""
        ...


def kept_moments(
    saved: Path, pictures: Pictures, vae: Any, *, size: int, mirror: bool, device: torch.device, run: str, report: Report
) -> Float[Tensor, "n c2 h w"]:
    """Means (less the autoencoder's shift) and log-variances of the latents, float32; with ``mirror`` those of the flipped pictures follow.

    Read from ``saved`` where an earlier run left them there.
    """
    past = checkpoint.load(saved, run=run)
    if past is not None:
        return past.tensors["moments"].to(device)
    vae.to(device)
    passes = [_encode(pictures, vae, size, device, report, flip=flip) for flip in ((False, True) if mirror else (False,))]
    vae.to("cpu")
    moments = torch.cat(passes).contiguous()  # as it is read back: another order in memory is summed in another order
    checkpoint.save(saved, {"moments": moments}, Spent(steps=len(moments)), run=run)
    return moments


@torch.no_grad()
def _encode(pictures: Pictures, vae: Any, size: int, device: torch.device, report: Report, *, flip: bool) -> Tensor:
    """In float32: some autoencoders overflow in less."""
    parts, total = [], len(pictures)
    for start in range(0, total, _AT_ONCE):
        batch = np.stack([pictures.picture(place, size) for place in range(start, min(start + _AT_ONCE, total))])
        x = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        moments: Tensor = vae.encode(x.flip(-1) if flip else x, return_dict=False)[0].parameters
        parts.append(moments.float())
        report(start + len(batch), total, "latents, flipped" if flip else "latents")
    mean, logvar = torch.cat(parts).chunk(2, dim=1)
    return torch.cat([mean - latent_affine(vae)[1], logvar], dim=1)
