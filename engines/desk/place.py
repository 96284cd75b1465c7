"""Where networks are built and run, and how that gives one certified engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engines.backends.eager import EagerBackend
from engines.backends.registry import all_backends, choosable
from engines.build import Builder
from engines.cache import BuildCache
from engines.engine import Engine
from engines.errors import BackendUnavailableError
from engines.graphs.maker import GraphMaker
from engines.network import Network
from engines.protocols import Backend

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Place:
    """Where networks are built and run."""

    cache: BuildCache
    device: Device
    threads: int | None = None
    most: bool = False
    """Whether builders search as long as they can."""
    served: str | None = None
    """host:port of the Triton that serves networks, for the backend of that name."""
    make: GraphMaker | None = None
    """Where graphs come from; exported when absent."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All of the device, in order of preference."""
        return all_backends(self.cache, self.device, self.threads, most=self.most, make=self.make)

    def backend(self, name: str) -> Backend:
        """The one of that name.  Raises BackendUnavailableError when there is none."""
        named = [backend for backend in self.choosable(name) if backend.name == name]
        if not named:
            known = ", ".join(backend.name for backend in self.backends)
            raise BackendUnavailableError(name, [f"there is none of that name on {self.device}; known are {known}"])
        return named[0]

    def choosable(self, wanted: str) -> tuple[Backend, ...]:
        """Those that a choice is made from."""
        return choosable(wanted, self.cache, self.device, self.threads, most=self.most, served=self.served, make=self.make)

    @property
    def reference(self) -> EagerBackend:
        """Plain torch on the same device: in float32 it says which numbers are right."""
        return EagerBackend(self.device, self.threads)

    def builder(self, backends: Sequence[Backend], rows: int) -> Builder:
        """A builder that keeps its certificates where those of pipelines are."""
        where = {"device": self.device, "threads": str(self.threads or torch.get_num_threads())}
        where |= {"served": self.served} if self.served else {}
        return Builder(reference=self.reference, backends=backends, cache=self.cache, rows=rows, where=where)

    def certified(self, backend: Backend, network: Network) -> Engine:
        """The network on the backend.  Raises BackendError when it refuses, or computes other numbers than the reference."""
        builder = self.builder([backend], network.spec.profile.opt_b)
        return builder.build(network.module, network.spec, backend.name, network.batches)[0]


def worst_error(engine: Engine) -> float | None:
    """The largest error in an engine's certificate; None for the reference, which has none."""
    certificate = engine.certificate
    return None if certificate is None else max(certificate.error, certificate.gradient_error or 0.0)
