"""Captions of pictures, by a stand-in that speaks the chat protocol on loopback."""

import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit_plugin.concepts.picture_captions import LONGEST, QUESTION, Captioner, clean
from audit_plugin.concepts.questions import VisionOptions
from tests.concepts.chat_stand import Stand, red_of, served

RED, BLUE = (np.full((40, 40, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
PICTURES = {"a": RED, "b": BLUE, "c": RED}


def seen(picture):
    return json.dumps({"caption": "a red square." if red_of(picture) else "a blue square."})


@pytest.fixture
def captioner(tmp_path):
    def make(url, *, model="small", parallel=2, **options):
        known = VisionOptions(endpoint=url, model=model, retries=0, parallel=parallel, timeout_seconds=5.0, **options)
        return Captioner(options=known, file=tmp_path / "bank" / "captions.jsonl", load=PICTURES.__getitem__, pause_seconds=0.0)

    return make


def ask(captioner, shas="abc"):
    told = []
    found = captioner.captions(list(shas), lambda done, total, what: told.append((done, total, what)), "captions")
    return found, told


def test_every_picture_is_described_once_and_kept(captioner):
    """Also by the next run, which sends nothing; another model is asked anew."""
    with served(Stand(seen)) as (url, stand):
        found, told = ask(captioner(url))
        assert found == {"a": "a red square.", "b": "a blue square.", "c": "a red square."}
        assert told == [(2, 3, "captions"), (3, 3, "captions")]
        assert len(stand.bodies) == 3
        assert {body["messages"][1]["content"][0]["text"] for body in stand.bodies} == {QUESTION}
        assert all(len(body["messages"][1]["content"]) == 2 for body in stand.bodies)
        assert ask(captioner(url)) == (found, [])
        assert len(stand.bodies) == 3
        ask(captioner(url, model="other"), "a")
        assert len(stand.bodies) == 4


def test_a_torn_line_costs_its_own_caption_alone(captioner):
    with served(Stand(seen)) as (url, stand):
        one = captioner(url, parallel=1)
        found, _ = ask(one)
        lines = one.file.read_text().splitlines(keepends=True)
        one.file.write_text("".join([*lines[:2], lines[2][:20], "\n[1]\n", '{"key": 3, "caption": "x"}\n']))
        assert ask(captioner(url)) == (found, [(1, 1, "captions")])
        assert len(stand.bodies) == 4


@pytest.mark.parametrize(
    "answer",
    ["no JSON", '{"caption": 3}', '{"caption": "\\u0000 \\n"}', '{"other": "x"}'],
    ids=["prose", "number", "blank", "other"],
)
def test_what_is_no_caption_is_none(captioner, answer):
    with served(Stand(lambda _: answer)) as (url, _stand):
        assert ask(captioner(url), "a")[0] == {}


@pytest.mark.parametrize("status", [401, 503])
def test_an_endpoint_that_fails_is_given_up_with_one_warning(captioner, status):
    """At once where asking is of no use, else after three failures in a row; nothing is asked afterwards."""
    with served(Stand(seen, status=status)) as (url, stand), capture_logs() as logs:
        one = captioner(url, parallel=1)
        assert ask(one) == ({}, [(at, 3, "captions") for at in range(1, 2 if status == 401 else 4)])
        assert str(status) in one.why
        asked = len(stand.bodies)
        assert ask(one) == ({}, [])
        assert len(stand.bodies) == asked
    assert [one["event"] for one in logs] == ["pictures are described no further; the discovery goes on without"]


def test_failures_between_answers_are_endured(captioner):
    answers = iter(["", "", seen(RED), "", "", seen(RED)] * 2)
    with served(Stand(lambda _: next(answers))) as (url, _stand):
        one = captioner(url, parallel=1)
        one.load = lambda _sha: RED
        assert len(ask(one, "abcdef")[0]) == 2
        assert not one.why


def test_a_key_that_is_not_set_is_told_and_ends_nothing(captioner):
    with served(Stand(seen)) as (url, stand):
        one = captioner(url, api_key_env="NO_SUCH_KEY_AT_ALL")
        assert ask(one)[0] == {}
        assert "NO_SUCH_KEY_AT_ALL" in one.why
        assert not stand.bodies


def test_captions_are_one_line_of_limited_length():
    assert clean("a\x00b\x1b[2J\u202e c\n\td") == "a b [2J c d"
    assert clean("word " * 400) == ("word " * 60).strip()
    assert len(clean("x" * 9999)) == LONGEST
    assert clean(None) == clean(["a"]) == ""
