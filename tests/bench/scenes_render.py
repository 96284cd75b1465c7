"""How fast scenes are drawn: `python tests/bench/scenes_render.py [--images 10000]`."""

import argparse
import os
import platform
import time

import numpy as np

from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many


def main() -> None:
    """Print a table: workers, images, wall-clock seconds, images per second."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    n = parser.parse_args().images
    values = draw_values(n, SceneLaw(), np.random.default_rng(0))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    )
    print(f"{'workers':>8} {'images':>8} {'seconds':>8} {'images/s':>9}")
    for workers in (1, 2):
        started = time.perf_counter()
        render_many(range(n), values, workers=workers)
        seconds = time.perf_counter() - started
        print(f"{workers:>8} {n:>8} {seconds:>8.1f} {n / seconds:>9.0f}")


if __name__ == "__main__":
    main()
