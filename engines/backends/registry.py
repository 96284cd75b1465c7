"""Every backend there is, in order of preference.  The one place that names them all."""

from engines.cache import BuildCache
from engines.graphs.maker import Exporting, GraphMaker
from engines.protocols import Backend


def all_backends(
    cache: BuildCache,
    device: str = "cpu",
    threads: int | None = None,
    *,
    most: bool = False,
    make: GraphMaker | None = None,
) -> tuple[Backend, ...]:
    """The backends of a device, whether or not they can be used here: each says so itself when it is asked.

    ``most`` lets those that search for fast kernels do so as long as they can; ``make`` says where ONNX Runtime's graphs come from.
    """
    from engines.backends.compiled import CompiledBackend
    from engines.backends.eager import EagerBackend
    from engines.backends.ort import OrtBackend, OrtTensorrtBackend
    from engines.backends.prepared import PreparedBackend

    source = make or Exporting()
    compiled, ort, plain = (
        CompiledBackend(cache, device, threads),
        OrtBackend(cache, device, threads, make=source),
        EagerBackend(device, threads),
    )
    if device == "cpu":
        return compiled, ort, PreparedBackend(device, threads), plain
    return (
        _tensorrt(cache, device, threads, most=most),
        compiled,
        OrtTensorrtBackend(cache, device, threads, make=source),
        ort,
        plain,
    )


def choosable(
    wanted: str,
    cache: BuildCache,
    device: str = "cpu",
    threads: int | None = None,
    *,
    most: bool = False,
    served: str | None = None,
    make: GraphMaker | None = None,
) -> tuple[Backend, ...]:
    """Those that one is chosen from: all, except that ``auto`` compiles nothing for a CPU.

    ``served`` is the address of a Triton that serves the networks (:mod:`engines.serving`); it is taken only by its name.

    Torch compiles in every process anew, for tens of seconds a network there, which drawing a bank does not earn back.
    """
    if wanted == "triton":
        return (_triton(served, device),)
    every = all_backends(cache, device, threads, most=most, make=make)
    return tuple(each for each in every if (wanted, device, each.name) != ("auto", "cpu", "torch-compiled"))


def _triton(served: str | None, device: str) -> Backend:
    from engines.backends.triton import TritonBackend
    from engines.serving.wire import Endpoint

    return TritonBackend(endpoint=Endpoint(served) if served else None, device=device)


def _tensorrt(cache: BuildCache, device: str, threads: int | None, *, most: bool) -> Backend:
    from engines.backends.trt.backend import TensorrtBackend
    from engines.backends.trt.device import CudaDevice
    from engines.backends.trt.request import HIGHEST_LEVEL, BuildOptions

    options = BuildOptions(level=HIGHEST_LEVEL) if most else BuildOptions()
    return TensorrtBackend(cache, CudaDevice(device), options, threads)
