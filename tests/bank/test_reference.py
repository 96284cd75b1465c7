import json

import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.plan import plan
from audit_plugin.bank.reference import PICTURES, draw_twins, twins
from tests.bank.world import CONCEPTS, SMALL, FakeGenerator, good, new_bank, rows, silent


@pytest.fixture
def bank(tmp_path):
    """Eighty rows, drawn."""
    bank = new_bank(tmp_path / "bank")
    build(bank, plan(rows(80), CONCEPTS, generator="fake-1", audit="demo", options=SMALL), FakeGenerator(), good, progress=silent)
    return bank


def test_twins_are_drawn_once(bank):
    """As many as a comparison takes; the second time nothing is drawn."""
    first = draw_twins(bank, bank.plan(), FakeGenerator(), progress=silent)
    again = FakeGenerator()
    assert draw_twins(bank, bank.plan(), again, progress=silent) == first == twins(bank, bank.plan())
    assert (len(first), again.batches) == (PICTURES, [])


def test_a_twin_of_the_reference_itself_is_the_picture(bank):
    """The same bytes have the same name."""
    images = bank.images()
    assert all(
        images[twin.recipe].sha256 == twin.sha256 for twin in draw_twins(bank, bank.plan(), FakeGenerator(), progress=silent)
    )


def test_a_lost_twin_is_drawn_again(bank):
    (twin, *_) = draw_twins(bank, bank.plan(), FakeGenerator(size=4), progress=silent)
    bank.pictures.remove(twin.sha256)
    assert twins(bank, bank.plan()) == ()
    assert draw_twins(bank, bank.plan(), FakeGenerator(size=4), progress=silent)[0] == twin


@pytest.mark.parametrize(
    "note", ["", "{", "[]", '{"twins": [], "generator": "fake-1"}', '{"twins": [{"row": 1}], "generator": "fake-1"}']
)
def test_a_damaged_note_is_no_note(bank, note):
    draw_twins(bank, bank.plan(), FakeGenerator(), progress=silent)
    (bank.root / "reference.json").write_text(note)
    assert twins(bank, bank.plan()) == ()


def test_twins_of_another_generator_are_none(bank):
    draw_twins(bank, bank.plan(), FakeGenerator(), progress=silent)
    path = bank.root / "reference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "generator": "fake-2"}))
    assert twins(bank, bank.plan()) == ()
