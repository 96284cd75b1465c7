"""Gradient mode on a miniature pipeline with random weights: what it proposes, what it asks of the server, and what it leaves alone."""

import math
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_plugin import soft_prompts
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import CaptionForms, Sentences
from audit_plugin.config import DiscoverConfig
from audit_plugin.discovering import budgeted
from audit_plugin.hard_prompts import with_gaps
from audit_plugin.methods.diffex.limits import DiffexLimits
from audit_plugin.methods.diffexplainer.asking import Answers, LimitReachedError
from audit_plugin.methods.diffexplainer.options import GradientSearch
from audit_plugin.methods.diffexplainer.run import Subject
from audit_plugin.methods.diffexplainer.units import Usual
from audit_plugin.soft_prompts import SoftPrompts, class_aim, unit_aim
from engines.guided.first_order import FirstOrderOptions
from engines.pipeline import load_pipeline
from tests.bank.world import silent
from tests.engines.conftest import write_pipeline

FORMS = CaptionForms.learned(
    [f"a {size} {colour} {shape}" for size in ("small", "large") for colour in ("red", "blue") for shape in ("circle", "square")]
)
SEARCH = GradientSearch(steps=3, restarts=1, latents=1, cutouts=0, described=4, looks=2)
CLASS, UNIT = Subject(name="red", column=1), Subject(name="relu[3]", kind="unit", column=2)
PICTURES = 6


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return load_pipeline(write_pipeline(tmp_path_factory.mktemp("pipeline")), backend="torch", threads=1, steps=2, guidance=1.0)


def redness(images):
    return 50 * (images[:, 0] - images[:, 1]).mean((1, 2))


def logits(images):
    return torch.stack([-redness(images) / 2, redness(images) / 2], 1)


def units(images):
    """Four units, of which the last is how bright a picture is."""
    return torch.stack([images.mean((1, 2, 3)) * each for each in (0, 0, 0, 2)], 1)


USUAL = Usual(mean=np.array([0.5]), sd=np.array([0.25]), high=np.array([1.0]))


@pytest.fixture
def soft(pipeline, tmp_path, monkeypatch):
    """As wired to a server that answers column 1 by redness and column 2 by the unit."""
    monkeypatch.setattr(soft_prompts, "EXCHANGED", 1)
    monkeypatch.setattr(soft_prompts, "EXCHANGE", FirstOrderOptions(glances=4, candidates=2, contexts=1))
    lent = []

    @contextmanager
    def lend():
        lent.append(1)
        yield pipeline

    def draw():
        raise AssertionError("the pipeline that is lent may be the only one")

    def make(**changes):
        studio = PromptStudio(fingerprint="tiny", draw=draw, store=edit_store(tmp_path / "bank"), batch=8, progress=silent)

        def answers(shas, _what):
            images = torch.from_numpy(studio.images(shas))
            score = np.stack([-redness(images), redness(images), (units(images)[:, 3] - 0.5) / 0.25], 1)
            return Answers(shas=tuple(shas), score=score, shown=score, taken=score > np.array([0, 0, 2.0]))

        settings = {
            "audit": "audit",
            "lend": lend,
            "errors": nullcontext,
            "aims": {("class", 1): class_aim(logits, 1, 0.9), ("unit", 2): unit_aim(units, 3, USUAL, 0)},
            "phrasing": FORMS,
            "studio": studio,
            "answers": answers,
            "options": SEARCH,
            "verify": PICTURES,
            "shown": 2,
            "progress": silent,
        }
        return SoftPrompts(**{**settings, **changes}), lent

    return make


@pytest.mark.parametrize("subject", [CLASS, UNIT], ids=["class", "unit"])
def test_words_and_a_prompt_come_of_a_gradient_and_the_server_is_asked_about_its_pictures(soft, subject):
    asked, _ = soft()
    told = asked.hints(subject)
    assert told.hints
    assert {word.word for word in told.hints} <= set(FORMS.phrases)
    assert {word.source for word in told.hints} <= {"prompt", "pictures"}
    (prompt,) = told.prompts
    seen = asked.answers([picture.sha256 for picture in prompt.pictures], "")
    assert prompt.how == "soft prompt"
    assert [picture.score for picture in prompt.pictures] == pytest.approx(seen.shown[:, subject.column])
    assert prompt.activation.value * PICTURES == pytest.approx(round(prompt.activation.value * PICTURES))
    assert 0 < asked.spent["gradients"] <= asked.spent["rows"]


def test_a_subject_without_a_gradient_is_left_as_it_is(soft):
    asked, lent = soft(aims={})
    assert asked.hints(CLASS) is CLASS
    assert not lent


def test_the_same_seeds_give_the_same_prompt_and_its_pictures_are_drawn_once(soft):
    first, _ = soft()
    told = first.hints(CLASS)
    again, _ = soft()
    assert again.hints(CLASS) == told
    assert first.studio.drawn[0] > 0
    assert again.studio.drawn == [0]


def test_a_search_ends_once_its_pictures_are_of_the_class(soft):
    steps = []
    asked, _ = soft(
        aims={("class", 1): class_aim(logits, 1, 1e-6)},
        options=GradientSearch(steps=30, restarts=1, latents=1, cutouts=0, described=0),
        progress=lambda done, total, what: steps.append((done, total)) if what.startswith("soft prompt") else None,
    )
    asked.hints(CLASS)
    assert steps == [(1, 30), (2, 30), (30, 30)]


def test_whole_words_fill_the_gaps_of_a_caption_but_those_that_say_the_answer(soft):
    asked, _ = soft(
        options=GradientSearch(steps=1, restarts=1, latents=1, cutouts=0, described=0, hard_tokens=2, hard_steps=2),
        exclude=("red",),
    )
    told = asked.hints(CLASS)
    hard = [prompt for prompt in told.prompts if prompt.how == "hard tokens"]
    words = [set(prompt.text.split()) - {"a"} for prompt in hard]
    assert [len(some) for some in words] == [3]  # five words are left, and a second run would need six
    assert "red" not in words[0]


def test_gaps_stand_where_one_word_may_stand_for_another():
    assert with_gaps(FORMS, "a small red circle") == ("a", 0, 1, 2)
    assert with_gaps(Sentences(), "a photo of a dog") == ("a photo of a dog with a", 0)


def test_a_unit_is_climbed_in_standard_deviations_until_it_is_active():
    aim = unit_aim(units, 3, USUAL, 0)
    assert aim.enough == pytest.approx(2.0)
    assert aim.objective(torch.full((1, 3, 4, 4), 0.5)).tolist() == pytest.approx([2.0])
    assert class_aim(logits, 1, 0.9).enough == pytest.approx(math.log(0.9))


def test_soft_tokens_stand_behind_a_sentence_as_its_words_would(soft):
    asked, _ = soft(
        phrasing=Sentences(("a red square",)), options=GradientSearch(steps=1, restarts=1, latents=1, soft_tokens=2, cutouts=0)
    )
    (prompt,) = asked.hints(CLASS).prompts
    assert prompt.text.startswith("a red square of ")


def test_a_limit_ends_a_search_in_the_middle(soft):
    """Rows of gradients count as drawn ones do."""
    asked, _ = soft()
    limits = DiscoverConfig(limits=DiffexLimits(network_rows=10))
    held = replace(asked, studio=replace(asked.studio, allow=budgeted(limits, [0], lambda: 2, asked.spent)))
    with pytest.raises(LimitReachedError, match="network_rows"):
        held.hints(CLASS)
    assert 10 < asked.spent["rows"] < 60
