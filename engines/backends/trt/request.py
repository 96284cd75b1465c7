"""What a build is asked for, by whom and how: plain values that travel to the child process as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engines.spec import EngineSpec  # brings torch, which the child does without

Portable = Literal["same_compute_capability", "ampere_plus"]

GIB = 2**30
HIGHEST_LEVEL = 5


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How plans are built.  All but the patience is part of a plan's key."""

    level: int = 3
    """0 to 5: how long the builder searches.  5 takes many times longer for a few per cent."""
    workspace_bytes: int = 8 * GIB
    """Most scratch memory that one layer may use, while building and while running."""
    aux_streams: int = 0
    """Streams beside ours.  They would have the default priority, so that an engine on a low one would not yield."""
    refit: bool = False
    """Whether weights can be replaced later.  Slower kernels."""
    portable: Portable | None = None
    """Whether other releases and other GPUs may load the plan: those of the same compute capability, or Ampere and newer.  Slower."""
    strip: bool = False
    """Whether the plan is stored without its weights, which are then read from the graph at every load."""
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.level <= HIGHEST_LEVEL:
            raise ValueError(f"level is 0 to {HIGHEST_LEVEL}, got {self.level}")
        if self.timeout_seconds <= 0 or self.workspace_bytes <= 0 or self.aux_streams < 0:
            raise ValueError("timeout_seconds and workspace_bytes must be positive, aux_streams not negative")

    def note(self) -> dict[str, str]:
        """As text, for the key."""
        return {name: str(value) for name, value in asdict(self).items() if name != "timeout_seconds"}


@dataclass(frozen=True, kw_only=True)
class InputRange:
    """Shapes of one input: least, tuned for, most."""

    name: str
    least: tuple[int, ...]
    tuned: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One build."""

    module: str
    """Name of the vendor's module."""
    graph: str
    plan: str
    """File to write."""
    timings: str
    """File with what is known of kernels' speed on this device, read and written."""
    inputs: tuple[InputRange, ...]
    options: BuildOptions
    tf32: bool
    streaming: bool
    """Whether weights may be streamed from the host: they are larger than the device."""
    threads: int


def build_request(
    spec: "EngineSpec", options: BuildOptions, *, module: str, graph: Path, plan: Path, timings: Path, streaming: bool, threads: int
) -> BuildRequest:
    """The request for a spec: its batch sizes become one optimization profile."""
    sizes = (spec.profile.min_b, spec.profile.opt_b, spec.profile.max_b)
    shapes = {each.name: [(size, *each.row) for size in sizes] for each in spec.inputs}
    return BuildRequest(
        module=module,
        graph=str(graph),
        plan=str(plan),
        timings=str(timings),
        inputs=tuple(InputRange(name=name, least=least, tuned=tuned, most=most) for name, (least, tuned, most) in shapes.items()),
        options=options,
        tf32=spec.precision == "tf32",
        streaming=streaming,
        threads=threads,
    )


def write_request(request: BuildRequest, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(request)), encoding="utf-8")


def read_request(path: Path) -> BuildRequest:
    """As it was written."""
    value = json.loads(path.read_text(encoding="utf-8"))
    inputs = tuple(
        InputRange(name=each["name"], least=tuple(each["least"]), tuned=tuple(each["tuned"]), most=tuple(each["most"]))
        for each in value["inputs"]
    )
    return BuildRequest(**{**value, "inputs": inputs, "options": BuildOptions(**value["options"])})
