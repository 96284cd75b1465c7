"""What keeps soft tokens near words: terms of the loss that read the prompt alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Prompt = Float[Tensor, "n d"]
Table = Float[Tensor, "v d"]


@dataclass(frozen=True, kw_only=True)
class PromptWeights:
    """How much each term counts; the first two need the embedding table of the text encoder."""

    nearest: float = 0.1
    """Squared distance of a token's direction to that of the nearest word: mean_i min_v || P_i/|P_i| - V_v/|V_v| ||^2."""
    norm: float = 0.1
    """Squared departure of a token's length from the words' mean length mu: mean_i (|P_i| - mu)^2 / mu^2."""
    diverse: float = 0.05
    """Tokens that say the same: mean_{i<k} relu(cos(P_i, P_k) - 0.5)."""

    def __post_init__(self) -> None:
        if min(self.nearest, self.norm, self.diverse) < 0:
            raise ValueError("weights of a prompt's terms are not negative")


def prompt_terms(prompt: Prompt, table: Table | None, weights: PromptWeights) -> Float[Tensor, ""]:
    """The weighted sum, to be lowered; without a table only the tokens' diversity is left."""
    unit = functional.normalize(prompt, dim=1)
    total = prompt.new_zeros(())
    if table is not None:
        cosine = cosines_of(prompt, table).amax(1)
        total = total + weights.nearest * (2 - 2 * cosine).mean()  # |a - b|^2 = 2 - 2 a.b of unit vectors
        mu = mean_length(table)
        total = total + weights.norm * ((torch.linalg.vector_norm(prompt, dim=1) - mu) / mu).square().mean()
    if len(prompt) > 1:
        first, second = torch.triu_indices(len(prompt), len(prompt), 1, device=prompt.device)
        total = total + weights.diverse * (unit @ unit.T)[first, second].sub(0.5).relu().mean()
    return total


def projected(prompt: Prompt, table: Table) -> Prompt:
    """The row of the table nearest to each token by cosine."""
    found: Tensor = table[cosines_of(prompt, table).argmax(1)]
    return found


def cosines_of(prompt: Prompt, table: Table) -> Float[Tensor, "n v"]:
    """Of every token with every word."""
    return functional.normalize(prompt, dim=1) @ functional.normalize(table, dim=1).T


def mean_length(table: Table) -> Float[Tensor, ""]:
    """Mean Euclidean norm of the words."""
    length: Tensor = torch.linalg.vector_norm(table, dim=1).mean()
    return length
