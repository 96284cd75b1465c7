"""What has to be known about an audited model: where it answers, what it takes, how its answer is read."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal

from audit_plugin.target.load.options import LoadOptions


class Activation(StrEnum):
    """What turns the model's output into class scores."""

    SOFTMAX = "softmax"
    """The output is logits of exclusive classes."""
    SIGMOID = "sigmoid"
    """The output is logits of independent classes, or one logit of the second of two classes."""
    NONE = "none"
    """The output is used as it is, e.g. because the model ends in a softmax."""


class Resize(StrEnum):
    """Pillow's resampling filter, as most Python clients use it."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions:
    """How a client of this model turns an 8-bit picture into the input tensor: ``(pixel * scale - mean) / std``."""

    size: tuple[int, int] | None = None
    """Height and width in pixels that the model takes; read from the model's metadata when absent."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes; a model without a batch axis drops the N."""
    dtype: Literal["FP32", "FP16", "UINT8"] | None = None
    """Type of the input tensor; read from the model's metadata when absent.  UINT8 sends the pixels 0..255 as they are."""
    scale: float = 1 / 255
    """Factor on pixels 0..255."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted after scaling; red, green, blue (of a grey model three times the same)."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divisor after the mean; red, green, blue (of a grey model three times the same)."""
    resize: Resize = Resize.BILINEAR
    """Filter used where a picture has another size."""
    fit: Literal["stretch", "center_crop"] = "stretch"
    """Whether resizing may change the aspect ratio, or keeps it and cuts the middle out."""
    shorter_px: int | None = None
    """With ``center_crop``: length of the shorter side before cutting (256 in the usual "resize 256, crop 224")."""
    channels: Literal["RGB", "BGR", "GREY"] = "RGB"
    """Order of the colours in the input tensor; GREY is one channel, as Pillow's mode L weighs the colours."""
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"`preprocess.size` must be (height, width) in pixels, got {self.size}")
        if self.scale == 0 or 0 in self.std:
            raise ValueError("`preprocess.scale` and `preprocess.std` must not be zero")
        if self.channels == "GREY" and (len(set(self.mean)) > 1 or len(set(self.std)) > 1):
            raise ValueError(
                "a GREY model has one mean and one std; give the same number three times as `preprocess.mean` and `.std`"
            )
        if self.dtype == "UINT8" and self.normalises:
            raise ValueError("a UINT8 model takes pixels as they are; remove `preprocess.scale`, `.mean` and `.std`")
        if self.shorter_px is not None and (self.fit != "center_crop" or self.shorter_px < max(self.size or (1, 1))):
            raise ValueError("`preprocess.shorter_px` needs `fit: center_crop` and must be at least as long as `size`")

    @property
    def normalises(self) -> bool:
        """Whether scale, mean or std differ from what they are when nobody sets them."""
        return (self.scale, self.mean, self.std) != (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """Encryption of the connection; give certificate and key for mutual TLS."""

    ca: Path | None = None
    """PEM file with the authority that signed the server's certificate; the system's authorities when absent."""
    cert: Path | None = None
    """PEM file with this client's certificate chain."""
    key: Path | None = None
    """PEM file with this client's private key."""
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("mutual TLS needs both `tls.cert` and `tls.key`")


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """One audited model behind the gRPC endpoint of Triton or another Open Inference Protocol server."""

    model: str
    """Name of the model on the server."""
    url: str = "127.0.0.1:8001"
    """``host:port`` of the gRPC endpoint."""
    version: str | None = None
    """Version to audit; the newest ready one, noted as not pinned, when absent."""
    input: str | None = None
    """Name of the image input; may be left out where the model has only one."""
    output: str | None = None
    """Name of the output with the class scores; may be left out where the model has only one."""
    labels: tuple[str, ...] = ()
    """Class names in the order of the scores; read from the parameter ``labels`` of the model's configuration when absent."""
    activation: Activation = Activation.NONE
    """What turns the output into scores."""
    classes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Audited class -> the model's own classes that it is made of, each by index or label (``bear: [294, 295]``); own classes that are not named
    count for nothing.  The model's own classes are audited when empty."""
    merge: Literal["mean", "sum"] = "sum"
    """What an audited class of ``classes`` gets of its own classes' scores: probabilities of exclusive classes add up.  ``mean`` is for comparing
    several, and never reaches a threshold."""
    preprocess: PreprocessOptions = field(default_factory=PreprocessOptions)
    """How a picture becomes the input tensor."""
    max_batch: int | None = None
    """Most images in one request; the server's own limit holds as well."""
    concurrency: int = 2
    """Most requests under way at a time; keep it low, a server cannot take a running request back."""
    deadline_seconds: float = 30.0
    """Longest wait for one answer."""
    retries: int = 8
    """How often an unanswered request is sent again, with growing pauses (about 15 s in all for 8)."""
    tls: TlsOptions | None = None
    """Encrypt the connection; absent means plain text."""
    token_file: Path | None = None
    """File with a bearer token; read anew for every request, so that a rotated token is used."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of every request."""
    restricted_key: str | None = None
    """Name of the key where the operator restricted protocols (``--grpc-restricted-protocol``)."""
    restricted_key_file: Path | None = None
    """File with the value of that key."""
    priority: int | None = None
    """Priority level of the requests; the lowest that the model has when absent."""
    load: LoadOptions | None = None
    """What may be asked of this server, and when.  A configuration that says nothing gets the defaults; null: as fast as answers come."""
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        _check_url(self.url)
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"`labels` of model {self.model!r} name a class twice: {list(self.labels)}")
        _check_classes(self.classes, self.model)
        if len(self.classes) == 2:
            self.check_threshold()
        if min(self.concurrency, 1 if self.max_batch is None else self.max_batch) < 1:
            raise ValueError("`concurrency` and `max_batch` must be at least 1")
        if self.deadline_seconds <= 0 or self.retries < 0:
            raise ValueError("`deadline_seconds` must be positive and `retries` not negative")
        if (self.restricted_key is None) != (self.restricted_key_file is None):
            raise ValueError("`restricted_key` and `restricted_key_file` belong together")

    def check_threshold(self) -> None:
        """Raise ValueError where one class is decided by a threshold that its scores cannot reach."""
        if self.merge == "mean" and any(len(parts) > 1 for parts in self.classes.values()):
            raise ValueError(
                f"`merge: mean` of model {self.model!r}: two classes, or one that is `positive`, are decided by a threshold, which means of several "
                "probabilities never reach; take `merge: sum`"
            )


def _check_classes(classes: Mapping[str, tuple[int | str, ...]], model: str) -> None:
    """At least two audited classes, each made of something."""
    if len(classes) == 1:
        raise ValueError(f"`classes` of model {model!r} name one class; a decision needs two at least")
    if empty := [name for name, parts in classes.items() if not parts]:
        raise ValueError(f"`classes.{empty[0]}` of model {model!r} is empty; list indices or labels of the model's own classes")


def _check_url(url: str) -> None:
    """Take host:port only, and never an address of the link-local range, where cloud metadata services answer."""
    host, _, port = url.rpartition(":")
    if not host or not port.isdigit() or "/" in url:
        raise ValueError(f"`url` must be the gRPC endpoint as host:port, e.g. triton:8001, got {url!r}")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return
    if address.is_link_local:
        raise ValueError(f"`url` {url!r} is a link-local address; give the address of the inference server")
