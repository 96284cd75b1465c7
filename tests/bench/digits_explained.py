"""What flips a published digit classifier, edited by a published diffusion?  Neither was trained here; no GPU.

python -m tests.bench.digits_explained [--quick] [--only NAME,NAME] [--json FILE] [--markdown FILE]

Needs ``mnist`` and ``mnist-ddpm`` in the folder that ``AUDIT_PLUGIN_DATA`` names.  The classifier is served by a real Triton as it was published,
one image at a time; every digit is asked for its runner-up.  Whether a flip looks like the digit that it is taken for is judged by 9,000 real
digits that nothing else was done with: what most of its five nearest ones (in pixels) show.
"""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.config import load
from audit_plugin.core.counterfactual_results import CounterfactualResult
from audit_plugin.core.protocols import Progress
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.wiring import Installation, open_store
from engines.guided.options import DIME
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.fixtures.digits import CLASSIFIER, LABELS, THERE, WHY, digits, write_site

ROOT = Path(__file__).resolve().parents[2]
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "polyak": {"method": "polyak"},
    "polyak_deeper": {"method": "polyak", "signal": 0.45},
    "fastdime": {"method": "fastdime"},
    "fastdime_scaled": {"method": "fastdime", "scales": [scale / 255 for scale in DIME.class_scales]},
}
"""The classifier takes pixels 0..255, so that its gradients in images are 255 times what scales of class gradients were published for."""
NEIGHBOURS = 5
FIRST, LAST = 1_000, 10_000
"""Real digits that judge; those that are explained come before."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--only", default=",".join(VARIANTS), help="some of them, with commas between them")
    made.add_argument("--work", type=Path, default=CACHE / "digits_explained", help="where everything goes, emptied first")
    options = made.parse_args(arguments)
    if not THERE:
        sys.exit(WHY)
    shutil.rmtree(options.work, ignore_errors=True)
    report = Report(
        name="digits_explained",
        question="What flips a published digit classifier, edited by a published diffusion?",
        mode="quick" if options.quick else "full",
        seeds={"audit": "digits"},
    )
    write_model(options.work / "models", "digits", CLASSIFIER, LABELS)
    with TritonServer(options.work / "models", kit=ensure_kit(ROOT / ".kit"), log_file=options.work / "triton.log") as server:
        for name in options.only.split(","):
            explain(report, options.work / name, server.grpc_url, name, images=8 if options.quick else 32)
    report.figures["real_digits_read_right_by_neighbours"] = read_right()
    publish(report, options)


def read_right(count: int = 200) -> float:
    """Share of the first real digits whose neighbours show what they show: how far the judge can be trusted."""
    pixels, shown = digits(count)
    return float(np.mean([nearest(picture[..., None]) == number for picture, number in zip(pixels, shown, strict=True)]))


def explain(report: Report, work: Path, url: str, name: str, *, images: int) -> None:
    """One variant, from an empty bank: a row of the table, a table of the digits, and the report of the audit."""
    loaded = load(write_site(work, images, url, images=images, **VARIANTS[name]))
    silent: Progress = lambda *_: None  # noqa: E731  # a protocol of one call
    with open_store(loaded) as store:
        installation = Installation(loaded, silent)
        audited = {result.model: result for result in installation.audit(store)}
        started = time.monotonic()
        results = tuple(installation.explained(audited, store))
        seconds = time.monotonic() - started
        files = installation.report(results, store)
    (told,) = (result.counterfactuals for result in results)
    assert told is not None
    pictures = edit_store(loaded.config.bank.path, loaded.config.bank.images).pictures
    seen = [LABELS[nearest(pictures.pixels(item.after_sha256))] for item in told.items]
    report.rows.append({"variant": name, **row(told, seen, seconds)})
    report.tables[name] = [
        {
            "image": item.image, "from": item.original, "to": item.target, "flipped": item.flipped, "free": item.free,
            "nearest real digits": looks, "l1": item.l1, "changed": item.changed, "rows": item.network_rows, "queries": item.queries,
        }
        for item, looks in zip(told.items, seen, strict=True)
    ]  # fmt: skip
    print(f"{name}: {files[-1]}", file=sys.stderr)


def row(told: CounterfactualResult, seen: Sequence[str], seconds: float) -> dict[str, Cell]:
    """Figures of one variant."""
    flips = [(item, looks) for item, looks in zip(told.items, seen, strict=True) if item.flipped]
    return {
        "images": len(told.items),
        "flips": len(flips),
        "by nobody's guidance": sum(item.free for item, _ in flips),
        "survive JPEG": sum(bool(item.jpeg) for item, _ in flips),
        "median l1": float(np.median([item.l1 for item, _ in flips])) if flips else None,
        "look like the target": sum(looks == item.target for item, looks in flips),
        "look like the original": sum(looks == item.original for item, looks in flips),
        "network rows": float(np.mean([item.network_rows for item in told.items])),
        "queries": float(np.mean([item.queries for item in told.items])),
        "seconds": seconds,
    }


def nearest(picture: np.ndarray) -> int:
    """What most of the nearest real digits show; of equals, the one with the nearest."""
    real, shown = digits(LAST)
    apart = ((real[FIRST:].astype(np.float32) - picture[..., 0].astype(np.float32)) ** 2).sum((1, 2))
    first = shown[FIRST:][np.argsort(apart)[:NEIGHBOURS]].tolist()
    return max(first, key=lambda number: (first.count(number), -first.index(number)))


if __name__ == "__main__":
    main()
