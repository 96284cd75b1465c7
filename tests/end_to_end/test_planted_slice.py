"""A slice of the planted suite with the product in it: two classifiers that ship, a real Triton, an audit, and its claims beside the truth."""

from pathlib import Path

import pytest

from audit_plugin import wiring
from audit_plugin.demo.truth import ASSETS, onnx_path
from tests.bank.world import silent as unsaid
from tests.bench.planted_suite.__main__ import of_the_product, silent
from tests.bench.planted_suite.judge import judged, tally, task_of
from tests.bench.planted_suite.planted import predictor, shipped
from tests.bench.planted_suite.site import Site, Size, audited
from tests.bench.planted_suite.truth import rows_of, truths
from tests.bench.planted_suite.worlds import scenes

NAMES = ("shape_clean", "shape_ruler_100")
SIZE = Size(rows=120, images=4, methods=(), words=False, resamples=200)


@pytest.mark.usefixtures("triton_kit")
def test_audits_of_the_suite_find_what_is_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer draws, as everywhere in these tests, and only exact operators edit real images: of DiffEx no concept is judged here."""
    monkeypatch.setattr(wiring.Installation, "_edits_by_prompt", False)
    world = scenes()
    networks = {planted: onnx_path(planted.name) for planted in shipped(world) if planted.name in NAMES}
    site = Site(
        world=world, networks=networks, rows=rows_of(world, SIZE.rows, "slice"), size=SIZE, folder=tmp_path,
        generator=ASSETS / "generator", detector=ASSETS / "detector" / "scenes.onnx",
    )  # fmt: skip
    told = audited(site, unsaid)
    assert told.problems == ()
    assert {task_of(one)[0] for one in told.results} == set(NAMES)
    assert told.discoveries == told.again == ()
    assert told.files
    assert all(path.is_file() for path in told.files)
    assert silent(told) == set()
    known = truths(world, {planted: predictor(path) for planted, path in networks.items()}, 60)
    claims = of_the_product(world, told, known)
    assert {one.approach for one in claims} == {"DEPICT", "DiffEx", "audit"}
    for approach in ("DEPICT", "audit"):
        found = judged(world, [one for one in claims if one.approach == approach], known)
        assert len(found) == len(NAMES) * len(world.names)
        counted = tally(approach, found)
        assert counted.strong_found == counted.strong > 0, approach
        assert counted.accused == 0 < counted.idle, approach
        assert approach == "audit" or counted.covered > 0.8
