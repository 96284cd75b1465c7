"""A price is an upper bound, and nothing once everything is there."""

from dataclasses import replace

import pytest

from audit_plugin.bank.edit_price import Pricing, Wanted
from audit_plugin.bank.pilot import CAPTION_SCALES, run_pilot
from audit_plugin.core.tree import ConceptTree
from tests.bank.edit_world import BRIGHT, GRASS, RULER, TREE, cell, new_editor, new_judge, new_studio

NODES = (RULER, GRASS, BRIGHT.path)
CELLS = tuple(cell(at, node) for at in range(6) for node in NODES) + tuple(cell(at, "view", placebo=True) for at in range(6))
WANTED = [Wanted(cells=CELLS, at_most=len(CELLS))]
SMALL = ConceptTree(domain="scenes", nodes=tuple(node for node in TREE.nodes if node.path in {"ruler", "background", *NODES}))


def priced(studio, wanted=WANTED, *, piloted=True, further=0, pilot=()):
    detector = "" if studio.detector is None else studio.detector.fingerprint
    pricing = Pricing(
        drafting=studio.drafting, store=studio.store, detector=detector, rows=lambda terms: (20, 20 + 20 * terms), piloted=piloted
    )
    return pricing.cost(wanted, further=further, terms=3, pilot=pilot, scales=(3.0, 5.0))


def test_of_an_empty_bank_everything_is_missing(tmp_path):
    """Two null edits an image, one of them by the editor, and nothing is written to find that out."""
    editor = new_editor()
    cost = priced(new_studio(tmp_path / "bank", editor))
    assert (cost.edits, cost.reuse) == (12 + 24, 0)
    assert cost.network_rows == 6 * 20 + 18 * 40
    assert cost.seconds is None
    assert 10 * 36 * 600 > cost.bytes > 36 * 600
    assert (editor.rows_spent(), (tmp_path / "bank").exists()) == (0, False)


def test_what_the_bank_has_is_not_counted(tmp_path):
    editor = new_editor()
    studio = new_studio(tmp_path, editor)
    studio.rows(CELLS[:9])
    half = priced(studio)
    made = 9 + 6
    assert (half.edits, half.reuse) == (36 - made, made)
    assert half.network_rows == 3 * 20 + (18 - 6) * 40
    assert half.seconds == pytest.approx(half.network_rows * _rate(studio))
    studio.rows(CELLS)
    whole = priced(studio)
    assert (whole.edits, whole.network_rows, whole.bytes, whole.seconds, whole.reuse) == (0, 0, 0, 0.0, 36)


def _rate(studio):
    spent = studio.store.spent(studio.drafting.editor_name)
    return spent.seconds / spent.network_rows


def test_a_price_is_never_below_what_is_made(tmp_path):
    """Whichever of the edits a search takes, of no more nodes than it keeps."""
    editor = new_editor()
    studio = new_studio(tmp_path, editor)
    some = [Wanted(cells=tuple(cell(at, node) for node in NODES), at_most=2) for at in range(6)]
    cost = priced(studio, some)
    studio.rows([cell(at, node) for at in range(6) for node in (RULER, GRASS)])
    assert cost.edits == 12 + 12
    assert editor.rows_spent() == 18 <= cost.network_rows


def test_joint_edits_cost_the_rows_of_all_their_nodes(tmp_path):
    studio = new_studio(tmp_path, new_editor())
    assert priced(studio, further=10).network_rows - priced(studio).network_rows == 10 * 80
    alone = new_studio(tmp_path, None)
    exact = [Wanted(cells=(cell(0, BRIGHT.path),), at_most=1)]
    assert (priced(alone, exact, further=10).network_rows, priced(alone, exact, further=10).edits) == (0, 12)


def test_ambiguous_images_cost_nothing(tmp_path):
    editor = new_editor()
    studio = new_studio(tmp_path, editor, judge=new_judge(editor, sure={"ruler": 0.5}))
    wanted = [Wanted(cells=tuple(cell(at, RULER) for at in range(6)), at_most=6)]
    studio.rows(wanted[0].cells)
    assert priced(studio, wanted).edits == 0


def test_a_pilot_is_priced_with_all_its_trials(tmp_path):
    """And bounds what it takes; before it no edit by prompt is known, whatever the bank has."""
    editor = new_editor(needs={"ruler": 2.0})
    studio = new_studio(tmp_path, editor, tree=SMALL)
    images = [f"i{at}" for at in range(4)]
    before = priced(studio, [], piloted=False, pilot=images)
    thresholds = {RULER: 2, GRASS: 2}  # 0 and 0.15 of their own 0.0
    assert before.edits == 4 * len(CAPTION_SCALES) * sum(thresholds.values())
    pilot = run_pilot(studio, images)
    assert editor.edits <= before.edits
    settled = studio.settled(pilot.applied(SMALL), pilot.strengths)
    settled.rows(CELLS)
    assert priced(settled).edits == 0
    assert priced(replace(studio, drafting=settled.drafting), piloted=False).edits == 12
