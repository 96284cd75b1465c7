"""What depends on the release, the device and the size of a network."""

from torch import nn

from engines.spec import Precision


def opsets(release: tuple[int, int]) -> tuple[int, ...]:
    """Operator sets to try, the best first: 23 has attention, 21 group normalisation."""
    return (23, 21) if release >= (10, 14) else (21,)


def precisions(capability: tuple[int, int]) -> tuple[Precision, ...]:
    """What a device of this compute capability calculates in.  Ampere brought bf16 and TF32."""
    return ("fp32", "tf32", "fp16", "bf16") if capability >= (8, 0) else ("fp32", "fp16")


def weight_bytes(module: nn.Module, precision: Precision) -> int:
    """Size of a module's parameters in an engine of this precision."""
    width = 4 if precision in {"fp32", "tf32"} else 2
    return sum(each.numel() * (width if each.is_floating_point() else each.element_size()) for each in module.state_dict().values())
