"""Backends under test.  A new one is an entry here: a function of a build cache and, for those that need a server, of nothing else."""

from collections.abc import Callable

from engines.backends.compiled import CompiledBackend
from engines.backends.eager import EagerBackend
from engines.backends.ort import OrtBackend
from engines.backends.prepared import PreparedBackend
from engines.cache import BuildCache
from engines.protocols import Backend

BACKENDS: dict[str, Callable[[BuildCache], Backend]] = {
    "torch": lambda _: EagerBackend(threads=1),
    "torch-prepared": lambda _: PreparedBackend(threads=1),
    "torch-compiled": lambda cache: CompiledBackend(cache, threads=1),
    "ort": lambda cache: OrtBackend(cache, threads=1),
}

SERVED = "triton"
"""The backend whose networks run elsewhere: its server is a fixture."""
