"""What the server says about the model, settled against what the configuration says: read once, frozen."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import ConfigError, TargetError, TargetOutputError, TargetShapeError, UnknownModelError
from audit_plugin.core.protocols import Scores
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import TargetInfo
from audit_plugin.target.merging import Merging, merging
from audit_plugin.target.options import Activation, PreprocessOptions, TargetOptions
from audit_plugin.target.scores import labels_only, to_scores
from audit_plugin.target.wire import RefusedError, Wire

UNLISTED = "unlisted"
"""Version of a model whose server lists no versions."""
DEFAULT_BATCH = 32
"""Most images in a request where neither the server nor the user has a limit."""

_DTYPES: Mapping[str, Literal["FP32", "FP16", "UINT8"]] = {"FP32": "FP32", "FP16": "FP16", "UINT8": "UINT8"}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output as the model's metadata describes it, batch axis first; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything a request needs to know, settled before the first one."""

    info: TargetInfo
    request_version: str
    """What requests carry: the pinned version, or nothing where the server lists none."""
    input: TensorSpec
    output: TensorSpec
    preprocess: PreprocessOptions
    """With size and type filled in from the metadata."""
    activation: Activation
    batch_axis: bool
    max_batch: int
    priority: int
    """0 where priorities have no effect and none is sent."""
    labels_only: bool
    """The endpoint tells classes, not scores: scores are one-hot."""
    column: int | None = None
    """Of independent classes the one that is asked about alone."""
    merging: Merging | None = None
    """How the audited classes are made of the model's own, where they are not the same."""

    def scores(self, output: NDArray[np.generic], rows: int) -> Scores:
        """Of the audited classes, ``(rows, k)``, from the output tensor.  Raises TargetOutputError."""
        own = self.info.labels if self.merging is None else self.merging.labels
        told = to_scores(output, rows=rows, labels=own, activation=self.activation)
        return told if self.merging is None else self.merging(told)


def read_contract(wire: Wire) -> Contract:
    """Ask the server about the model and check that the options fit it.

    Raises:
        UnknownModelError: the server has no such model or version.
        TargetShapeError: preprocessing makes something else than the model takes.
        TargetError: the model cannot be audited through this endpoint; the message says why.
    """
    options = wire.options
    server = wire.call("get_server_metadata", as_json=True)
    version, notes = _pin_version(wire)
    metadata = wire.call("get_model_metadata", options.model, version, as_json=True)
    config = _read_config(wire, version)
    source, output = _pick(metadata, "inputs", options.input), _pick(metadata, "outputs", options.output)
    batch_axis = len(source.shape) != 3
    preprocess = _settle(options, source, batch_axis=batch_axis)
    own = _labels(options, config or {}, output)
    priority = _priority(options, config or {})
    only = labels_only(output.datatype, output.shape)
    merged = _merging(options, own, only=only)
    labels = own if merged is None else tuple(options.classes)
    scored = [json.dumps(asdict(preprocess)), source.name, output.name, options.activation, json.dumps(own)]
    scored += [] if merged is None else [json.dumps([labels, merged.columns, merged.total])]
    return Contract(
        info=TargetInfo(
            model=options.model,
            version=version or UNLISTED,
            config_hash=_hash(metadata if config is None else config),
            server=f"{server.get('name', 'unknown')} {server.get('version', '')}".strip(),
            labels=labels,
            scoring=digest(*scored),
            notes=(*notes, *_notes(config, priority=priority, only=only)),
        ),
        request_version=version,
        input=source,
        output=output,
        preprocess=preprocess,
        activation=options.activation,
        batch_axis=batch_axis,
        max_batch=_max_batch(options, source, config or {}, batch_axis=batch_axis),
        priority=priority,
        labels_only=only,
        merging=merged,
    )


def _merging(options: TargetOptions, labels: tuple[str, ...], *, only: bool) -> Merging | None:
    """None where the model's own classes are audited."""
    if not options.classes:
        return None
    if only:
        raise ConfigError(f"`classes` need scores, and model {options.model!r} answers classes only; name an `output` with scores")
    return merging(options.classes, labels, total=options.merge == "sum", model=options.model)


def _pin_version(wire: Wire) -> tuple[str, tuple[str, ...]]:
    """The version that every request will carry, and what there is to say about it."""
    model, wanted = wire.options.model, wire.options.version
    if wanted is not None:
        if not wire.call("is_model_ready", model, wanted):
            raise UnknownModelError(
                f"{wire.options.url} has no ready version {wanted!r} of model {model!r}; check `model` and `version`"
            )
        return wanted, ()
    listed = wire.call("get_model_metadata", model, as_json=True).get("versions", [])
    for version in sorted(listed, key=_newness, reverse=True):
        if wire.call("is_model_ready", model, version):
            return version, (
                f"version not pinned: audited {version}, the newest that was ready; set `version` to compare like with like",
            )
    if listed:
        raise UnknownModelError(f"no version of model {model!r} is ready on {wire.options.url} (listed: {', '.join(listed)})")
    return "", ("the server lists no versions: a change of the model is noticed only by its metadata",)


def _newness(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (-1, version)


def _read_config(wire: Wire, version: str) -> Mapping[str, Any] | None:
    """The model's configuration; None where the server has none or does not show it."""
    try:
        answer: Mapping[str, Any] = wire.call("get_model_config", wire.options.model, version, as_json=True)
    except RefusedError:
        return None
    config: Mapping[str, Any] = answer.get("config", {})
    return config


def _pick(metadata: Mapping[str, Any], kind: str, name: str | None) -> TensorSpec:
    """The input or output to use: the one that is named, or the only one."""
    tensors = [
        TensorSpec(name=each["name"], datatype=each["datatype"], shape=tuple(int(n) for n in each.get("shape", ())))
        for each in metadata.get(kind, [])
    ]
    names = [each.name for each in tensors]
    option = kind.removesuffix("s")
    if kind == "inputs" and len(tensors) > 1:
        raise TargetError(
            f"model {metadata['name']!r} takes several inputs {names}; only models that take just an image can be audited"
        )
    if name is None and len(tensors) == 1:
        return tensors[0]
    if name not in names:
        raise TargetError(f"model {metadata['name']!r} has the {kind} {names}; name the one to use as `{option}` (it is {name!r})")
    return tensors[names.index(name)]


def _settle(options: TargetOptions, source: TensorSpec, *, batch_axis: bool) -> PreprocessOptions:
    """Fill size and type of the preprocessing in from the metadata and hold the rest against it."""
    asked = options.preprocess
    dtype = asked.dtype or source.datatype
    if dtype != source.datatype or dtype not in _DTYPES:
        raise TargetError(
            f"model {options.model!r} takes {source.datatype} as {source.name!r} but preprocessing makes {asked.dtype or 'pixels'}; "
            "set `preprocess.dtype` to FP32, FP16 or UINT8, whichever the model takes"
        )
    wants = source.shape[1:] if batch_axis else source.shape
    height, width = wants[-2:] if asked.layout == "NCHW" else wants[:2]
    size = asked.size or ((height, width) if min(height, width) > 0 else None)
    makes = _tail(size or (-1, -1), asked)
    if len(wants) != 3 or any(want not in (-1, made) and made != -1 for want, made in zip(wants, makes, strict=True)):
        raise TargetShapeError(options.model, wants, makes)
    try:
        return replace(asked, size=size, dtype=_DTYPES[dtype])
    except ValueError as error:
        raise ConfigError(f"target {options.model!r}: {error}") from error


def _tail(size: tuple[int, int], asked: PreprocessOptions) -> tuple[int, ...]:
    channels = 1 if asked.channels == "GREY" else 3
    return (channels, *size) if asked.layout == "NCHW" else (*size, channels)


def _labels(options: TargetOptions, config: Mapping[str, Any], output: TensorSpec) -> tuple[str, ...]:
    """Class names as configured, else as the model's own configuration gives them; checked against the output's width."""
    width = output.shape[-1] if len(output.shape) > 1 else -1
    numbered = tuple(map(str, range(width))) if options.classes else ()  # who merges by index need not know names
    labels = options.labels or _own_labels(config) or numbered
    if not labels:
        raise ConfigError(
            f"the server does not name the classes of model {options.model!r}; list them as `labels` in the order of the scores"
        )
    if not options.classes and (twice := sorted({label for label in labels if labels.count(label) > 1})):
        raise ConfigError(
            f"the server names {len(twice)} classes of model {options.model!r} twice ({', '.join(map(repr, twice[:3]))}); "
            "list them as `labels` in the order of the scores, each with a name of its own"
        )
    binary = width == 1 and len(labels) == 2
    if width > 0 and not binary and width != len(labels) and not labels_only(output.datatype, output.shape):
        raise TargetOutputError(
            f"output {output.name!r} of model {options.model!r} has {width} classes but there are {len(labels)} `labels`"
        )
    return labels


def _own_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    text = config.get("parameters", {}).get("labels", {}).get("string_value", "[]")
    try:
        return tuple(str(label) for label in json.loads(text))
    except (ValueError, TypeError):
        return ()


def _max_batch(options: TargetOptions, source: TensorSpec, config: Mapping[str, Any], *, batch_axis: bool) -> int:
    if not batch_axis or source.shape[0] == 1:
        return 1
    if source.shape[0] > 1:
        raise TargetShapeError(options.model, source.shape, (-1, *source.shape[1:]))
    limits = [int(config.get("max_batch_size", 0)), options.max_batch or 0]
    return min((limit for limit in limits if limit > 0), default=DEFAULT_BATCH)


def _priority(options: TargetOptions, config: Mapping[str, Any]) -> int:
    """The level to send; 0 where the model has no levels.  Lower numbers go first, so the lowest priority is the largest number."""
    levels = int(config.get("dynamic_batching", {}).get("priority_levels", 0))
    if options.priority is not None and levels and not 1 <= options.priority <= levels:
        raise ConfigError(
            f"`priority` {options.priority} of target {options.model!r} must be 1 to {levels}, the levels that the model has"
        )
    return (options.priority or levels) if levels else 0


def _notes(config: Mapping[str, Any] | None, *, priority: int, only: bool) -> Sequence[str]:
    notes = []
    if config is None:
        notes.append(
            "the server shows no model configuration: identity rests on its metadata, batch and priority limits are unknown"
        )
    elif not priority:
        notes.append(
            "the model has no priority levels: audit requests queue on equal terms with customers'; see `dynamic_batching`"
        )
    if config and config.get("response_cache", {}).get("enable"):
        notes.append("the response cache is on: repeated probes may be answered from it and push customers' entries out")
    if only:
        notes.append("the endpoint answers classes only: scores are 0 or 1, small effects cannot be seen")
    return notes


def _hash(described: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
