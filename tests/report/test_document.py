"""Files: the document reads back, writing is all or nothing, card and terminal table say what the page says."""

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from audit_plugin.core.errors import StorageFullError, StoreError
from audit_plugin.core.results import Verdict
from audit_plugin.report.card import model_card
from audit_plugin.report.document import from_document, read_report, to_document, write_report, write_whole
from audit_plugin.report.table import verdict_table
from tests.report import factory


@pytest.fixture(scope="module")
def gallery() -> factory.Gallery:
    return factory.Gallery()


@pytest.fixture(scope="module")
def two(gallery):
    return factory.planted(gallery), factory.clean(gallery)


def shown(results, width: int = 120, *, terminal: bool = False, environment: dict[str, str] | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, _environ=environment or {}).print(verdict_table(results))
    return out.getvalue()


def test_the_document_reads_back_equal(two):
    """Results and history survive the round trip."""
    document = from_document(to_document(two, history=[factory.earlier(two[0])]))
    assert document.results == two
    assert document.history == (factory.earlier(two[0]),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a report document"),
        ("[]", "`kind`"),
        ('{"kind": "audit_plugin.report", "schema_version": 99}', "schema 99"),
        ('{"kind": "audit_plugin.report", "schema_version": 1, "results": 3}', "not a list"),
        ('{"kind": "audit_plugin.report", "schema_version": 1, "results": [{}]}', "not an audit result"),
    ],
)
def test_foreign_documents_are_refused_with_the_reason(text, says):
    """Each kind of wrong file has its own message."""
    with pytest.raises(StoreError, match=says):
        from_document(text)


def test_a_directory_gets_all_three_forms(two, gallery, tmp_path):
    """Document, card and page; the page can be made again from the document."""
    files = write_report(tmp_path / "new" / "place", two, gallery)
    assert [file.name for file in files] == ["report.json", "model_card.md", "report.html"]
    assert read_report(tmp_path / "new" / "place").results == two
    again = tmp_path / "again.html"
    write_report(again, read_report(files[0]).results, gallery)
    assert again.read_bytes() == files[2].read_bytes()
    assert sorted(file.name for file in (tmp_path / "new" / "place").iterdir()) == sorted(file.name for file in files)


@pytest.mark.parametrize("suffix", [".html", ".json", ".md"])
def test_a_file_name_asks_for_one_form(two, gallery, tmp_path, suffix):
    """The ending decides."""
    file = tmp_path / f"audit{suffix}"
    assert write_report(file, two, gallery) == (file,)
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_keeps_the_old_report(tmp_path, monkeypatch):
    """Nothing is lost and nothing is left over when space runs out."""
    file = tmp_path / "report.json"
    file.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match=r"report\.json"):
        write_whole(file, "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "old")]


def test_a_place_that_cannot_hold_files_is_named(tmp_path):
    """A file where a directory is needed."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_whole(tmp_path / "taken" / "report.json", "x")


def test_a_missing_report_is_named(tmp_path):
    """Reading what is not there says what was looked for."""
    with pytest.raises(StoreError, match=r"report\.json"):
        read_report(tmp_path)


def test_the_card_holds_metadata_table_and_limits(two):
    """The YAML block parses; the table has one line per concept; limits are never left out."""
    card = model_card(two[0])
    facts = yaml.safe_load(card.split("```")[1].removeprefix("yaml"))["concept_audit"]
    assert facts["findings"] == ["scenes_planted/watermark/reliance"]
    assert card.count("| 0.") + card.count("| −0.") + card.count("| at least") >= len(two[0].concepts)
    assert "Nothing here shows the absence of bias" in card
    assert "No finding at these thresholds" in model_card(two[1])


def test_the_card_of_a_broken_audit_has_no_table(gallery):
    """It says why instead."""
    card = model_card(factory.broken(gallery))
    assert "| concept |" not in card
    assert "says nothing about the model" in card
    assert "fail. Ranking suppressed" in card


def test_the_card_escapes_hostile_names(gallery):
    """A name can neither break the table nor open a tag."""
    result = factory.planted(gallery)
    evil = dataclasses.replace(result.concepts[0], concept="a|b\n<script>")
    assert "| a\\|b \\<script\\> |" in model_card(dataclasses.replace(result, concepts=(evil,)))


def test_the_terminal_table_has_the_columns_of_the_question(two):
    """Concept, role, importance, truth, flips, verdict, with one line per model."""
    lines = shown(two).splitlines()
    header = " ".join(lines[:2])
    for word in ("concept", "role", "model", "importance", "truth", "excess", "verdict"):
        assert word in header
    assert any("watermark" in line and "0.163 [0.135, 0.191]" in line and "relies, and must not" in line for line in lines)
    assert "truth" not in shown([dataclasses.replace(two[0], truth={})])


def test_no_color_is_honoured(two):
    """On a terminal the words are coloured, unless NO_COLOR asks otherwise; the words stay."""
    assert "\x1b[1;31m" in shown(two, terminal=True, environment={"TERM": "xterm-256color"})
    assert "\x1b[1;31m" not in shown(two, terminal=True, environment={"TERM": "xterm-256color", "NO_COLOR": "1"})


def test_the_terminal_table_hides_what_must_not_be_read(gallery):
    """An invalid generator leaves no numbers; a concept that cannot be assessed has none either; markup stays text."""
    assert "0.163" not in shown([factory.broken(gallery)])
    gone = factory.concept("[red]x[/red]", 0.5, 0.1, Verdict.NOT_ASSESSABLE)
    text = shown([factory.planted(gallery, concepts=(gone,))])
    assert "[red]x[/red]" in text
    assert "0.500" not in text
    assert shown([])


def test_the_report_loads_no_gpu_stack():
    """The sidecar without torch can write reports."""
    code = "import sys, audit_plugin.report.document; print([m for m in ('torch', 'onnxruntime', 'tensorrt', 'engines') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(out.stdout.replace("'", '"')) == []
