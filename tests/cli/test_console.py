"""Progress and remarks: bars on a terminal, plain lines elsewhere, nothing of it on stdout."""

import io
import json

import pytest
from rich.console import Console
from stamina import instrumentation

from audit_plugin.cli import console


@pytest.fixture
def screen(monkeypatch):
    """Stderr as a terminal of its own."""
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, force_terminal=True, width=100, no_color=True))
    return text


def test_lines_where_there_is_no_terminal(capsys):
    """One when a stage with something to do ends; nothing about one that was done before."""
    with console.progress_bars() as progress:
        for done in range(4):
            progress(done, 3, f"images, loss {done}")
        progress(5, 5, "readings")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("images, loss 3: 3 in 0.0 s\n")
    assert err.count("\n") == 1


def test_a_stage_that_comes_again(capsys):
    """Scores of a second model are told as those of the first."""
    with console.progress_bars() as progress:
        for _ in range(2):
            progress(0, 2, "scores")
            progress(2, 2, "scores")
    assert capsys.readouterr().err.count("scores: 2 in") == 2


def test_long_stages_speak_now_and_then(capsys, monkeypatch):
    """Every ten seconds where there is no terminal."""
    seconds = iter(range(0, 3000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))
    with console.progress_bars() as progress:
        for done in range(9):
            progress(done, 100, "images")
    assert capsys.readouterr().err.splitlines() == ["images: 3 of 100", "images: 6 of 100"]


def test_bars_on_a_terminal(screen, capsys):
    """Count and stage."""
    with console.progress_bars() as progress:
        progress(0, 7, "images")
        progress(7, 7, "images")
    assert "7/7" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_remarks_are_taken_literally(capsys):
    """Brackets are no markup, and a complaint is one line."""
    console.say("[red] /a/[b]")
    console.complain(ValueError("first\n   second [bold]"))
    assert capsys.readouterr().err == "[red] /a/[b]\nerror: first second [bold]\n"


def test_no_colour_when_asked(monkeypatch):
    """``NO_COLOR`` holds on a terminal too."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, force_terminal=True, stderr=True))
    console.complain(ValueError("no"))
    assert "31m" not in text.getvalue()


def test_repeated_requests_are_told_on_stderr(capsys, monkeypatch):
    """Never on stdout, where the log library of the retries would put it."""
    monkeypatch.setattr(console.os, "environ", {})
    console.quiet_vendors()
    details = instrumentation.RetryDetails(
        name="infer", args=(), kwargs={}, retry_num=1, wait_for=0.25, waited_so_far=0.0, caused_by=ValueError("away")
    )
    for hook in instrumentation.get_on_retry_hooks():
        hook(details)
    assert capsys.readouterr() == ("", "asking again in 0.2 s (attempt 2): away\n")


def test_facts_in_every_form(capsys):
    """Names are words in a table and keys elsewhere."""
    facts: dict[str, object] = {"images_reused": 3, "backend": "[x]"}
    for form in console.Form:
        console.print_facts(facts, form)
    assert capsys.readouterr().out == (
        f"{'images reused':28} 3\n{'backend':28} [x]\n"
        '{\n  "images_reused": 3,\n  "backend": "[x]"\n}\n'
        "images_reused: 3\nbackend: '[x]'\n"
    )


def test_rows_in_every_form(capsys):
    """A table leaves out columns that are empty everywhere, and takes brackets literally; documents hold everything."""
    rows: list[dict[str, object]] = [
        {"backend": "[x]", "ms": 12.3456, "refused": ""},
        {"backend": "ort", "ms": None, "refused": ""},
    ]
    console.print_rows(rows, console.Form.TABLE)
    shown = capsys.readouterr().out
    assert "[x]" in shown
    assert "12.3" in shown
    assert "refused" not in shown
    console.print_rows(rows, console.Form.JSON)
    assert json.loads(capsys.readouterr().out) == rows
    console.print_rows([], console.Form.TABLE)
    assert capsys.readouterr().out == ""
