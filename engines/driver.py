"""Is there a CUDA driver that works?  Imports nothing heavy, so that a child process can ask too."""

import ctypes
from functools import lru_cache


@lru_cache(maxsize=1)
def cuda_driver() -> str | None:
    """Why no CUDA driver works here, or None.

    Asked of the driver itself: vendors' runtimes return objects around null pointers, or end the process, where there is none.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no CUDA driver (libcuda.so.1 is not on the loader's path)"
    if not hasattr(driver, "cuInit") or not hasattr(driver, "cuDeviceGetCount"):
        return "libcuda.so.1 is no CUDA driver"
    code = int(driver.cuInit(0))
    if code != 0:
        return f"the CUDA driver does not start (cuInit answers {code})"
    count = ctypes.c_int()
    code = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    return None if code == 0 and count.value > 0 else "the CUDA driver sees no device"
