"""How fast are scenes drawn?  `python -m tests.bench.scenes_render [--quick] [--json FILE] [--markdown FILE]`."""

import time

import numpy as np

from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many
from tests.bench.report import Report, parser, publish


def main() -> None:
    """One line per number of workers."""
    options = parser(__doc__).parse_args()
    n = 2_000 if options.quick else 10_000
    values = draw_values(n, SceneLaw(), np.random.default_rng(0))
    mode = "quick" if options.quick else "full"
    report = Report(name="scenes_render", question="how fast are scenes drawn?", mode=mode, seeds={"values": "0"})
    for workers in (1, 2):
        started = time.perf_counter()
        render_many(range(n), values, workers=workers)
        seconds = time.perf_counter() - started
        report.rows.append({"workers": workers, "images": n, "seconds": seconds, "images_per_s": n / seconds})
        report.figures[f"images_per_s_{workers}"] = n / seconds
    publish(report, options)


if __name__ == "__main__":
    main()
