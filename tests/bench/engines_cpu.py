"""How fast does each CPU backend draw with the shipped generator, against diffusers' own call?

python -m tests.bench.engines_cpu [--quick] [--backend NAME ...] [--cache DIR] [--json FILE] [--markdown FILE]
"""

from collections.abc import Sequence
from pathlib import Path

from audit_plugin.cli.console import hush_warnings, quiet_vendors
from engines.cache import BuildCache
from engines.desk.place import Place
from tests.bench.engines_speed import compare, host_microseconds
from tests.bench.report import CACHE, Report, parser, publish

SLOW = "torch-compiled"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--backend", action="append", default=[], help="only these backends")
    made.add_argument("--cache", type=Path, default=CACHE / "engines", help="where built engines are kept")
    options = made.parse_args(arguments)
    quiet_vendors()
    hush_warnings()
    place = Place(BuildCache(options.cache), "cpu")
    report = Report(
        name="engines_cpu", question="how fast is each backend, against diffusers' own call, with which error?", seeds={"images": "0..31"}
    )  # fmt: skip
    report.mode = "quick" if options.quick else "full"
    backends = options.backend
    if options.quick and not backends:
        backends = [backend.name for backend in place.backends if backend.name != SLOW]
        report.notes.append(f"{SLOW}: left out of quick runs, since it compiles for minutes")
    report.rows = compare(report, place, repeats=3 if options.quick else 9, backends=backends)
    report.figures |= host_microseconds(place, backends)
    report.notes.append("host_us: host time of a bound call of an engine that does next to nothing")
    publish(report, options)


if __name__ == "__main__":
    main()
