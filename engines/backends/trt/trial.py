"""Start TensorRT's runtime once, in a process that may die of it: ``python -P trial.py MODULE``.

Where the driver is missing or too old for the libraries, the runtime may be an object around a null pointer, and using it ends the
process.  Imports nothing of ours, so that it is quick.
"""

import importlib
import sys


def start(module: str) -> None:
    """Make a runtime and ask it for something."""
    trt = importlib.import_module(module)
    runtime = trt.Runtime(trt.Logger())
    print(runtime.engine_host_code_allowed)


if __name__ == "__main__":
    start(sys.argv[1])
