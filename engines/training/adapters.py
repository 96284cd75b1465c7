"""LoRA adapters (Hu et al. 2021), injected into frozen networks by peft."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from engines.training.errors import TrainingError

_NAME = "default"
"""Of the adapter within peft; it does not travel."""


class Adapters(nn.Module):
    """The parameters of injected adapters and nothing else, so that loop, average and checkpoints never touch the frozen weights."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, value in sorted(parameters.items()):
            self.register_parameter(name.replace(".", "/"), value)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By the names of an adapter file, detached."""
        return {name.replace("/", "."): value.detach() for name, value in self.named_parameters()}

    @property
    def size(self) -> int:
        """Numbers that are trained."""
        return sum(value.numel() for value in self.parameters())


def inject(part: str, network: nn.Module, *, rank: int, alpha: float, targets: Iterable[str]) -> dict[str, nn.Parameter]:
    """Put adapters into ``network``, whose own weights are frozen; their parameters by the names of an adapter file.

    A is drawn from torch's global generator, B is zero: nothing changes yet.  Raises TrainingError when peft is not installed, or when
    no layer, or one that cannot be adapted, has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise TrainingError("adapters need peft, which is not installed; run pip install 'audit-plugin[train]'") from error
    wanted, config = list(targets), cast("Any", LoraConfig)  # whose alpha is declared an integer and used as a number
    network.requires_grad_(requires_grad=False)
    try:
        inject_adapter_in_model(config(r=rank, lora_alpha=alpha, target_modules=wanted), network, adapter_name=_NAME)
    except (ValueError, TypeError) as error:
        reason = str(error).split(". ")[0]
        raise TrainingError(f"{part}: no adapter fits {', '.join(wanted)} ({reason}); change the targets of the recipe") from error
    return {_stored(part, name): value for name, value in network.named_parameters() if value.requires_grad}


def _stored(part: str, name: str) -> str:
    """Without peft's adapter name, and with the prefix that text encoders had before transformers 5: every reader knows that one."""
    plain = name.replace(f".{_NAME}.", ".")
    return f"{part}.{plain}" if part == "unet" or plain.startswith("text_model.") else f"{part}.text_model.{plain}"
