"""What a backend can do on this machine, found out without risk: the CUDA driver is asked before any library that needs it."""

from dataclasses import dataclass

from engines.driver import cuda_driver as cuda_driver
from engines.spec import EngineSpec, Kind, Precision


@dataclass(frozen=True, kw_only=True)
class Capability:
    """Answer to a probe."""

    backend: str
    reason: str | None = None
    """Why the backend cannot be used here at all; None when it can."""
    version: str = ""
    """Of the library that does the work."""
    device: str = "cpu"
    precisions: tuple[Precision, ...] = ()
    kinds: tuple[Kind, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether anything can be built with it."""
        return self.reason is None

    def refuses(self, spec: EngineSpec) -> str | None:
        """Why such a network cannot be run, or None."""
        if self.reason is not None:
            return self.reason
        if spec.precision not in self.precisions:
            return f"precision {spec.precision} is not offered on {self.device}; use {' or '.join(self.precisions)}"
        if spec.kind not in self.kinds:
            return f"networks of kind {spec.kind} are not offered; only {', '.join(self.kinds)}"
        return None
