"""A copy of the deployed network as a differentiable function of pictures: what a client does before it, and logits after it.

The pictures' path is the client's (:mod:`audit_plugin.target.preprocess`), with rounding to 8 bits in the forward direction and none in the
gradient: a rounded value has no slope.
"""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from audit_plugin.core.errors import GradientError
from audit_plugin.target.contract import Contract
from audit_plugin.target.options import Activation, PreprocessOptions, Resize
from audit_plugin.target.preprocess import LUMA
from engines.serving.onnx_module import OnnxModule

Images = Float[Tensor, "n 3 h w"]
Logits = Float[Tensor, "n k"]

_LABELLING = frozenset({"ArgMax", "TopK", "LabelEncoder", "ZipMap", "Cast", "Squeeze", "Identity", "Flatten"})
"""What may lie between scores and the class that is told of them."""
_SMALLEST = 1e-38
"""Probability that stands for 0 where the network answers probabilities and their logits cannot be had."""


class Reading(nn.Module):
    """Pictures (n 3 h w) in [0, 1] -> logits (n k) whose softmax is what the server answers.

    One score l for two classes becomes (-l/2, l/2).  Independent classes (sigmoid) are read one at a time: :meth:`of_class`.
    ``exclusive``: the logits are of exclusive classes (softmax), so that the odds of one of them are against all others.
    """

    def __init__(
        self, network: nn.Module, preprocess: PreprocessOptions, activation: Activation, *, logits: bool, exclusive: bool = False
    ) -> None:
        super().__init__()
        self.network, self.preprocess, self.activation = network, preprocess, activation
        self.logits, self.exclusive = logits, exclusive
        self.column: int | None = None

    def forward(self, images: Images) -> Logits:
        """Logits; the gradient is that of the network at the rounded picture."""
        out: Tensor = self.network(prepared(images, self.preprocess))
        scores = (out[:, None] if out.ndim == 1 else out.flatten(1)).to(images.dtype)
        if self.column is not None:
            scores = self._one(scores, self.column)
        if scores.shape[1] == 1:
            odds = scores if self.logits else _odds(scores)
            return torch.cat([-odds / 2, odds / 2], 1)
        return scores if self.logits else scores.clamp(min=_SMALLEST).log()

    def _one(self, scores: Tensor, column: int) -> Tensor:
        """The score (n 1) of one class: a probability, or the log-odds of it."""
        own = scores[:, column : column + 1]
        if not (self.logits and self.exclusive) or scores.shape[1] == 1:
            return own
        return own - torch.cat([scores[:, :column], scores[:, column + 1 :]], 1).logsumexp(1, keepdim=True)

    def of_class(self, column: int) -> "Reading":
        """One class against its absence: columns (absent, present)."""
        one = Reading(self.network, self.preprocess, self.activation, logits=self.logits, exclusive=self.exclusive)
        one.column = column
        return one


def prepared(images: Images, options: PreprocessOptions) -> Tensor:
    """What a client makes of pictures before it asks the server, differentiable."""
    pixels = _resized(_rounded(images * 255), options)
    if options.channels == "GREY":
        pixels = _rounded((pixels * (pixels.new_tensor(LUMA) / 65536).view(1, 3, 1, 1)).sum(1, keepdim=True))
    values = pixels
    if options.dtype != "UINT8":
        shape = (1, -1, 1, 1)
        mean, std = (images.new_tensor(each)[: pixels.shape[1]].view(shape) for each in (options.mean, options.std))
        values = (pixels * options.scale - mean) / std
    if options.channels == "BGR":
        values = values.flip(1)
    return values.permute(0, 2, 3, 1) if options.layout == "NHWC" else values


def read_network(path: Path, contract: Contract) -> Reading:
    """The deployed file (.onnx, TorchScript .pt, torch.export .pt2) as the server's clients see it.

    TorchScript and exported programs run their own code when they are read: give files of your own model only.  Raises GradientError.
    """
    if not path.is_file():
        raise GradientError(f"there is no file {path}; give the classifier's ONNX, TorchScript or torch.export file")
    try:
        exclusive = contract.activation is Activation.SOFTMAX
        if path.suffix == ".onnx":
            network, logits, softmax = _onnx(path, contract)
            exclusive = exclusive or softmax
        else:
            network, logits = _torch(path), _speaks_logits(contract)
    except GradientError:
        raise
    except Exception as error:  # readers of files raise whatever their parts do
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GradientError(f"{path} cannot be read as a differentiable network: {said}") from error
    for parameter in network.parameters():
        parameter.requires_grad = False
    reading = Reading(network, preprocess_of(contract), contract.activation, logits=logits, exclusive=exclusive)
    return reading if contract.column is None else reading.of_class(contract.column)


def preprocess_of(contract: Contract) -> PreprocessOptions:
    """What the network's input asks for; pictures of whole numbers are not scaled."""
    return replace(contract.preprocess, dtype="UINT8") if contract.input.datatype == "UINT8" else contract.preprocess


def _onnx(path: Path, contract: Contract) -> tuple[nn.Module, bool, bool]:
    """The graph up to its logits where it ends in a softmax or a sigmoid of them, and before an output of class numbers or names.

    Beside it whether it answers logits, and whether a softmax of them was taken off.
    """
    made_by, names = _producers(path)
    output = contract.output.name if contract.output.name in names else names[0] if len(names) == 1 else None
    if output is None:
        raise GradientError(f"{path} has no output {contract.output.name!r} as the server has; it has {', '.join(names)}")
    while contract.labels_only and output in made_by and made_by[output][0] in _LABELLING:
        output = made_by[output][1]
    if contract.labels_only or not _speaks_logits(contract):
        operator, source = made_by.get(output, ("", output))
        if operator in {"Softmax", "Sigmoid"}:
            return OnnxModule(path, source).eval(), True, operator == "Softmax"
    return OnnxModule(path, output).eval(), contract.labels_only or _speaks_logits(contract), False


def _producers(path: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Tensor -> operator that makes it and that operator's first input; and the outputs' names."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's errors share no base class with onnx's
        raise GradientError(f"{path} cannot be read as an ONNX file: {' '.join(str(error).split())}") from error
    made = {name: (node.op_type, node.input[0] if node.input else "") for node in graph.node for name in node.output}
    return made, [each.name for each in graph.output]


def _torch(path: Path) -> nn.Module:
    if path.suffix == ".pt2":
        if not zipfile.is_zipfile(path):  # torch tells that in a page
            raise GradientError(
                f"{path} cannot be read as a differentiable network: it is no exported program, which is a zip archive"
            )
        exported: nn.Module = torch.export.load(str(path)).module()
        return exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deployed files outlive the format
        scripted: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return scripted.eval()


def _speaks_logits(contract: Contract) -> bool:
    return contract.activation is not Activation.NONE


def _rounded(pixels: Tensor) -> Tensor:
    """At whole numbers, with the slope of not being rounded."""
    return pixels + ((pixels + 0.5).floor() - pixels).detach()


def _resized(pixels: Tensor, options: PreprocessOptions) -> Tensor:
    """As Pillow resizes: filters as wide as the larger of the two pixels."""
    if options.size is None or (tuple(pixels.shape[2:]) == options.size and options.shorter_px is None):
        return pixels
    height, width = options.size
    if options.fit == "stretch":
        return _filtered(pixels, (height, width), options)
    tall, long = pixels.shape[2:]
    factor = max(height / tall, width / long)
    if options.shorter_px is not None:
        factor = max(factor, options.shorter_px / min(tall, long))
    high, wide = (max(least, int(factor * side + 1e-6)) for side, least in ((tall, height), (long, width)))
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return _filtered(pixels, (high, wide), options)[:, :, top : top + height, left : left + width]


def _filtered(pixels: Tensor, size: tuple[int, int], options: PreprocessOptions) -> Tensor:
    if options.resize is Resize.NEAREST:
        return functional.interpolate(pixels, size, mode="nearest-exact")
    for each in ((pixels.shape[2], size[1]), size):  # rows, then columns, each kept in 8 bits
        pixels = _rounded(functional.interpolate(pixels, each, mode=options.resize.value, antialias=True)).clamp(0, 255)
    return pixels


def _odds(p: Tensor) -> Tensor:
    return p.clamp(min=_SMALLEST).log() - (1 - p).clamp(min=_SMALLEST).log()
