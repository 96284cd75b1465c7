"""The command line: what is there, a copy for an audit, deletion."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from audit_plugin.capture.rows import read_rows
from audit_plugin.cli.app import app
from audit_plugin.config import load
from tests.capture.made import answer, encoded, headers, intake

BASE = Path(__file__).parents[1] / "broken_configs" / "base.yaml"


@pytest.fixture
def config(tmp_path):
    """A configuration that captures, and three pictures, two of them answered."""
    file = tmp_path / "audit.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(BASE.read_text()) | {"capture": {"path": "captured"}}))
    with intake(tmp_path / "captured") as taking:
        for at in range(3):
            taking.accept(headers(identity=str(at)), encoded(at)[0])
            if at:
                taking.accept(headers("response", identity=str(at)), answer([[0.2, 0.8]]))
    return file


def run(*arguments):
    return CliRunner().invoke(app, ["capture", *map(str, arguments)])


def test_status_snapshot_and_deletion(config, tmp_path):
    """The three commands on one sample."""
    status = run("status", config, "--output", "json")
    (row,) = json.loads(status.stdout)
    assert (row["model"], row["images"], row["predicted"]) == ("leaves", 3, 2)
    done = run("snapshot", config, "--model", "leaves", "--out", tmp_path / "copy", "--output", "json")
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 2)
    first = read_rows(tmp_path / "captured" / "leaves")[0]
    assert run("forget", config, "--sha256", first.sha256).exit_code == 0
    assert not (tmp_path / "captured" / "leaves" / first.file).exists()
    assert first not in read_rows(tmp_path / "captured" / "leaves")


def test_mistakes_are_one_line_and_a_code(config, tmp_path):
    """A model that is not captured, a place that is taken, a picture that is none, and capture that is off."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for arguments in (
        ["snapshot", config, "--model", "others", "--out", tmp_path / "a"],
        ["snapshot", config, "--model", "leaves", "--out", tmp_path / "taken"],
        ["forget", config, "--sha256", "abc"],
        ["status", BASE],
    ):
        done = run(*arguments)
        assert done.exit_code == 2
        assert len(done.stderr.strip().splitlines()) == 1


def test_paths_are_relative_to_the_configuration(config, tmp_path):
    """As everywhere in it."""
    assert load(config, {}).config.capture.path == str(tmp_path / "captured")
