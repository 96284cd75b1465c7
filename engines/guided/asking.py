"""The deployed model as searches ask it: its answers to stored pictures, each question counted."""

import io
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from engines.guided.edits import Accept
from engines.guided.particles import Score, Told

Ask = Callable[[Float[np.ndarray, "m 3 h w"], Int[np.ndarray, " m"]], Float[np.ndarray, "m k"]]
"""(pictures at multiples of 1/255, which of the images they were made of) -> probabilities of the deployed model."""


class Counted:
    """Who has the last word, and how often it was asked about each of ``images``.

    With ``jpeg`` a flip counts if a JPEG of that quality keeps it, too: what a JPEG undoes is nothing that anybody sees.
    """

    def __init__(self, ask: Ask, images: int, jpeg: int | None = None) -> None:
        self.ask, self.jpeg, self.queries = ask, jpeg, np.zeros(images, np.int64)

    def accept(self, which: Int[np.ndarray, " n"]) -> Accept:
        """The deployed model's word; rows of a search are places in ``which``."""

        def accept(images: Tensor, target: Tensor, rows: Tensor) -> Tensor:
            pictures, asked, wanted = images.detach().cpu().numpy().astype(np.float32), which[rows.cpu().numpy()], target.cpu()
            told = self._signed(pictures, asked, wanted)
            held = np.flatnonzero(told.numpy() > 0)
            if self.jpeg is not None and len(held):  # what does not flip need not be asked again
                lossy = np.stack([after_jpeg(pictures[at], self.jpeg) for at in held])
                told[held] = torch.minimum(told[held], self._signed(lossy, asked[held], wanted[held]))
            return told.float()

        return accept

    @property
    def score(self) -> Score:
        """Log-odds of the target; rows are those of the images."""

        def score(images: Tensor, target: Tensor, rows: Tensor) -> Told:
            p = torch.from_numpy(self._probabilities(images.detach().cpu().numpy().astype(np.float32), rows.cpu().numpy())).double()
            own = p.gather(1, target.cpu()[:, None])[:, 0]
            others = p.scatter(1, target.cpu()[:, None], 0.0).sum(1)  # 1 - p loses what is small
            tiny = torch.finfo(torch.float64).tiny
            return Told(own.clamp(min=tiny).log() - others.clamp(min=tiny).log(), p.argmax(1) == target.cpu())

        return score

    def _signed(self, pictures: Float[np.ndarray, "m 3 h w"], rows: Int[np.ndarray, " m"], target: Tensor) -> Tensor:
        p = torch.from_numpy(np.asarray(self._probabilities(pictures, rows), np.float64))
        own = p.gather(1, target[:, None])[:, 0]
        return torch.where(p.argmax(1) == target, own, -own)

    def _probabilities(self, pictures: Float[np.ndarray, "m 3 h w"], rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m k"]:
        np.add.at(self.queries, rows, 1)
        return self.ask(pictures, rows)


def after_jpeg(picture: Float[np.ndarray, "3 h w"], quality: int) -> Float[np.ndarray, "3 h w"]:
    """A picture (RGB in [0, 1]) as a JPEG of this quality shows it."""
    held = io.BytesIO()
    Image.fromarray(np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8)).save(held, "JPEG", quality=quality)
    read = np.asarray(Image.open(held).convert("RGB"), np.float32)
    return np.ascontiguousarray(read.transpose(2, 0, 1)) / np.float32(255)
