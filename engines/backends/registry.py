"""Every backend there is, in order of preference.  The one place that names them all."""

from engines.cache import BuildCache
from engines.protocols import Backend


def all_backends(cache: BuildCache, device: str = "cpu", threads: int | None = None, *, most: bool = False) -> tuple[Backend, ...]:
    """The backends of a device, whether or not they can be used here: each says so itself when it is asked.

    ``most`` lets those that search for fast kernels do so as long as they can.
    """
    from engines.backends.eager import EagerBackend
    from engines.backends.ort import OrtBackend

    return (OrtBackend(cache, device, threads), EagerBackend(device, threads))
