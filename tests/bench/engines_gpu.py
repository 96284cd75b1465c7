"""How fast is each backend on this GPU, on the networks that audits run, against the floor and against diffusers' own call?

python -m tests.bench.engines_gpu [--quick] [--minutes N] [--case NAME ...] [--backend NAME ...] [--cpu-dry-run] [--json FILE] [--markdown FILE]

Ends within ``--minutes`` (10): what is not reached by then is said.  Engines and tuning are kept, so that a second run goes further; a first
one has the large networks to compile and to export, which a larger ``--minutes`` leaves time for.
``--cpu-dry-run`` runs the same on the CPU with small networks of the same classes; its numbers mean nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from audit_plugin.cli.console import hush_warnings, quiet_vendors
from engines.cache import BuildCache
from engines.desk.place import Place
from tests.bench.engines_cases import CASES, TARGETS, figures, measured_cases
from tests.bench.engines_speed import compare
from tests.bench.report import CACHE, Report, parser, publish

PIPELINE_SHARE = 0.25
"""Of the time, for the shipped pipeline beside diffusers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--minutes", type=float, default=10.0, help="most time to take")
    made.add_argument("--case", action="append", default=[], choices=[case.figure for case in CASES], help="only these networks")
    made.add_argument("--backend", action="append", default=[], help="only these backends")
    made.add_argument("--cpu-dry-run", action="store_true", help="small networks on the CPU, to try the benchmark itself")
    made.add_argument("--cache", type=Path, default=CACHE / "engines", help="where built engines are kept")
    options = made.parse_args(arguments)
    quiet_vendors()
    hush_warnings()
    if not (options.cpu_dry_run or torch.cuda.is_available()):
        sys.exit("engines_gpu needs a CUDA device; engines_cpu measures without one, --cpu-dry-run only tries this benchmark")
    place = Place(BuildCache(options.cache), "cpu" if options.cpu_dry_run else "cuda")
    report = Report(name="engines_gpu", question="how fast is each backend on this GPU, against the floor?", seeds={"weights": "0"})
    report.mode = "dry run" if options.cpu_dry_run else "quick" if options.quick else "full"
    whole = not (options.case or options.backend)
    minutes = options.minutes * (1 - PIPELINE_SHARE) if whole else options.minutes
    for row in measured_cases(place, small=options.cpu_dry_run, minutes=minutes, only=options.case, backends=options.backend):
        print(f"{row['case']}, {row['backend']}: {row['state']}", file=sys.stderr)
        report.rows.append(row)
    report.figures |= figures(report.rows)
    if whole:
        report.tables["The shipped generator"] = compare(report, place, repeats=3 if options.quick else 7)
    report.notes += [TARGETS, "ms: device time of a batch, median of replays of a bound engine; floor: as engines.roof counts it"]
    if not options.cpu_dry_run:
        report.notes.append(f"device: {torch.cuda.get_device_name(0)}")
    publish(report, options)


if __name__ == "__main__":
    main()
