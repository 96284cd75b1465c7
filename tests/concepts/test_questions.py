"""Questions to a vision model, against a stand-in that speaks the chat protocol on loopback."""

import base64
import io
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from audit_plugin.concepts.questions import VisionAnswers, VisionOptions
from audit_plugin.concepts.vision_chat import UnusableEndpointError
from tests.concepts import chat_stand

PICTURES = [np.full((40, 40, 3), (255 * (at % 2), 0, 255 * (1 - at % 2)), np.uint8) for at in range(6)]


class Stand:
    """Looks at the picture that it is sent: red is yes."""

    def __init__(self, answer=None, status=200, wait=0.0):
        self.fixed, self.status, self.wait, self.bodies = answer, status, wait, []
        self.now = self.most = 0
        self.lock = threading.Lock()

    def answer(self, body):
        with self.lock:
            self.bodies.append(body)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.wait)
        with self.lock:
            self.now -= 1
        if self.fixed is not None:
            return self.fixed
        url = body["messages"][1]["content"][1]["image_url"]["url"]
        red, _, blue = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).getpixel((20, 20))
        return json.dumps({"answer": "yes" if red > blue else "no"})


@contextmanager
def served(stand, **options):
    with chat_stand.served(stand) as (url, _):
        yield VisionAnswers(VisionOptions(endpoint=url, model="local", retries=1, **options), pause_seconds=0.0)


def test_each_picture_gets_its_own_answer_in_order():
    """One picture and one question a call, held to yes or no; never more calls at once than allowed."""
    stand = Stand(wait=0.03)
    with served(stand, parallel=2) as vision:
        assert vision.yes("Is it red?", PICTURES) == [False, True] * 3
    assert stand.most == 2
    for body in stand.bodies:
        text, *images = body["messages"][1]["content"]
        assert text["text"].endswith("Question: Is it red?")
        assert len(images) == 1
        assert body["temperature"] == 0
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["answer"]["enum"] == ["yes", "no"]


@pytest.mark.parametrize("answer", ["perhaps", '{"answer": "maybe"}', '{"answer": ["yes"]}', '{"other": "yes"}'])
def test_anything_but_yes_or_no_is_no_answer(answer):
    with served(Stand(answer)) as vision:
        assert vision.yes("Is it red?", PICTURES[:1]) == [None]


def test_a_server_that_fails_for_good_is_an_error_and_one_that_is_busy_is_not():
    with served(Stand(status=401)) as vision, pytest.raises(UnusableEndpointError, match="401"):
        vision.yes("Is it red?", PICTURES[:1])
    with served(Stand(status=503)) as vision:
        assert vision.yes("Is it red?", PICTURES[:1]) == [None]


def test_the_identity_is_that_of_model_and_place():
    here = VisionOptions(endpoint="http://127.0.0.1:1", model="a")
    prints = {VisionAnswers(one).fingerprint for one in (here, VisionOptions(endpoint=here.endpoint, model="b"))}
    assert len(prints) == 2
    assert VisionAnswers(here).yes("Is it red?", []) == []
