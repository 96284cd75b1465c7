"""Torch on a CPU with the weights laid out for it: images channels last, doubling folded into the convolution after it.

Needs no build, so it is what draws a small bank; certified against plain torch like every other backend.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.backends.eager import TorchProgram
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import ArtifactError
from engines.spec import EngineSpec


@dataclass(frozen=True)
class PreparedBackend:
    """Runs rearranged copies of modules."""

    device: str = "cpu"
    threads: int | None = None
    name: str = "torch-prepared"

    def probe(self) -> Capability:
        """Torch is always there; on a GPU the compiler does more."""
        reason = None if self.device == "cpu" else "it prepares networks for a CPU; on a GPU use torch-compiled"
        return Capability(
            backend=self.name,
            reason=reason,
            version=torch.__version__,
            device=self.device,
            precisions=("fp32",),
            kinds=("forward", "vjp", "guided"),
        )

    def unusable(self, spec: EngineSpec) -> str | None:
        """Anything but single precision on a CPU."""
        return self.probe().refuses(spec)

    def ready(self, spec: EngineSpec) -> bool:
        """Copying takes no time."""
        return True

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """A copy of the module; the one that was given stays as it is.  Its weights cannot be replaced: some are sums."""
        copied: Any = folded(copy.deepcopy(module).requires_grad_(requires_grad=False))
        program = TorchProgram(spec, {}, copied.to(memory_format=torch.channels_last), torch.device(self.device), self.threads)
        return Engine(spec=spec, program=program, backend=self.name)

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """There is no artifact: a module is code."""
        raise ArtifactError(
            f"backend {self.name!r} has no artifacts to load {spec.name!r} from ({artifact}); build it from its module"
        )


class Doubling(nn.Module):
    """Nearest doubling and a 3x3 convolution as one transposed convolution: 16 products where there were 36."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.plain = convolution
        self.kernel = nn.Parameter(transposed_kernel(convolution.weight), requires_grad=False)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None, *_: object, **__: object) -> Tensor:
        """As diffusers calls it; another size than the double, which odd images need, is made in two steps."""
        if output_size is None or tuple(output_size) == (2 * x.shape[2], 2 * x.shape[3]):
            return nn.functional.conv_transpose2d(x, self.kernel, self.plain.bias, stride=2, padding=1)
        made: Tensor = self.plain(nn.functional.interpolate(x, size=list(output_size), mode="nearest"))
        return made


def folded(module: nn.Module) -> nn.Module:
    """The module with every such pair of diffusers' blocks replaced, in place."""
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            convolution = _foldable(child)
            if convolution is not None:
                part.add_module(name, Doubling(convolution))
    return module


def transposed_kernel(weight: Tensor) -> Tensor:
    """The kernel (c o 4 4) of the one convolution from that (o c 3 3) of the other, summed in float64.

    With u[j] = x[j // 2] and y[i] = sum_k w[k] u[i + k - 1]: every second y sees two of the three taps on one pixel of x.
    """
    taps = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float64)
    return torch.einsum("ai,bj,ocij->coab", taps, taps, weight.detach().double()).to(weight.dtype).contiguous()


def _foldable(module: nn.Module) -> nn.Conv2d | None:
    """The convolution of an upsampler that doubles, when both are as in the formula."""
    from diffusers.models.upsampling import Upsample2D

    if not isinstance(module, Upsample2D):
        return None
    options: Any = module
    convolution = getattr(module, options.name, None) if options.use_conv else None
    plain = options.interpolate and not options.use_conv_transpose and options.norm is None
    fits = isinstance(convolution, nn.Conv2d) and _plain(convolution)
    return convolution if plain and fits else None


def _plain(convolution: nn.Conv2d) -> bool:
    settings = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
    return settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and convolution.padding_mode == "zeros"
