"""The pilot that is shipped with the demonstration is the one that its configuration asks for."""

import json

from audit_plugin.config import load
from audit_plugin.demo.truth import ASSETS
from audit_plugin.demo.world import World
from audit_plugin.studios import LOCK_NAME, known_strengths
from audit_plugin.wiring import Installation
from tests.bank.world import silent

EDITOR = "37654cc1b11bf4a8b55741c8d518fa37fe02d369a435748135068d5ef779a8cc"
"""Fingerprint of the shipped generator as an editor; the whole demonstration, which loads it, is held to its strengths elsewhere."""


def test_the_demonstration_finds_its_strengths(tmp_path):
    """Whatever the number of rows; a change of tree, captions, editor, judge or limits needs another pilot, and another file."""
    world = World(out=tmp_path / "demo")
    world.write_scenes(16)
    world.write_config("127.0.0.1:9")
    installation = Installation(load(world.config, {}), silent)
    note = {"settings": installation._editing(), "name": "sde20", "fingerprint": EDITOR}
    (world.out / "bank" / "editor.json").write_text(json.dumps(note))
    found = known_strengths(installation.loaded, installation.plain_studio)
    assert found is not None, f"{LOCK_NAME} is of another pilot"
    shipped = json.loads((ASSETS / LOCK_NAME).read_text())
    assert found.refused == shipped["refused"]
    assert {path: one.scale for path, one in found.strengths.items()} == {
        path: one["scale"] for path, one in shipped["strengths"].items()
    }
