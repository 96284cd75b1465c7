"""Is the model on the server the network that is asked for?  Compared by configuration: tensors, and the engine key in its parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.errors import ServedModelError
from engines.serving.config import TYPES
from engines.serving.identity import engine_key
from engines.serving.wire import Wire
from engines.spec import EngineSpec, TensorSpec


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that was found to be the network."""

    name: str
    version: str
    """Pinned: requests name it, so that another one never answers instead."""
    max_rows: int
    """Rows of the largest request."""


def find_served(wire: Wire, name: str, spec: EngineSpec, version: str = "") -> ServedModel:
    """The served model, compared with the spec.  Raises ServerError, ServedModelError."""
    versions = sorted(wire.call("get_model_metadata", name).versions, key=int)
    if version and version not in versions:
        raise ServedModelError(f"model {name!r} is served in version {', '.join(versions)}, asked for is {version}")
    version = version or versions[-1]
    config = wire.call("get_model_config", name, version).config
    differences = [*_tensors("input", spec.inputs, config.input), *_tensors("output", spec.outputs, config.output)]
    if differences:
        raise ServedModelError(f"model {name!r} at {wire.endpoint.url} is another network: {'; '.join(differences)}")
    if config.max_batch_size < 1:
        raise ServedModelError(f"model {name!r} at {wire.endpoint.url} takes no batches; set its max_batch_size")
    _check_key(name, wire.endpoint.url, spec, config.parameters["engine_key"].string_value)
    return ServedModel(name=name, version=version, max_rows=config.max_batch_size)


def _check_key(name: str, url: str, spec: EngineSpec, found: str) -> None:
    wanted = engine_key(spec)
    if found != wanted:
        raise ServedModelError(
            f"model {name!r} at {url} has the engine key {found or 'of no export'}, wanted is {wanted}: its weights, tensors or precision "
            f"are those of another {spec.name!r}; export it from the same pipeline with `audit-plugin engines export-triton`"
        )


def _tensors(what: str, wanted: Sequence[TensorSpec], served: Sequence[Any]) -> list[str]:
    """Differences, in words."""
    from tritonclient.grpc.model_config_pb2 import DataType

    ours = {each.name: (TYPES[each.dtype], list(each.row) or [1]) for each in wanted}
    theirs = {each.name: (DataType.Name(each.data_type), list(each.dims)) for each in served}
    return [
        f"{what} {name!r} is {_said(theirs.get(name))}, wanted is {_said(ours.get(name))}"
        for name in sorted(ours | theirs)
        if ours.get(name) != theirs.get(name)
    ]


def _said(tensor: tuple[str, list[int]] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} {tensor[1]}"
