"""Counterfactuals of one model, from what is configured to pictures: the method that fits, where edits start, and errors that say what to do."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from audit_plugin.bank.counterfactuals import Wish
from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.config import ExplainConfig
from audit_plugin.core.errors import ConfigError, GradientError
from audit_plugin.core.seeds import digest
from audit_plugin.explaining import SIGNALS, Explaining, deepest_start
from audit_plugin.sources.images import to_float
from audit_plugin.target.gradients import GradientOptions, Guide, Rung, StudentOptions, WatchedSurrogate, watched
from audit_plugin.target.one_class import OneClass
from engines.pipeline import load_pipeline
from tests.engines.pipelines import miniatures
from tests.fixtures.networks import BIAS, WEIGHT, colour_network, expected_logits, expected_probabilities, sigmoid_network
from tests.target.gradients.deployed import Coarse

SIDE = 8
SMALL = {"free": 1, "kept": 6, "signal": 0.6, "bisections": 0, "particles": 2, "steps": 2}
EXACT = 99
GUIDED = "polyak"
"""The method of choice where there is a gradient."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Over pixels, with random weights: what it draws is noise, which is enough to be asked about."""
    return load_pipeline(miniatures.save(miniatures.ddpm, tmp_path_factory.mktemp("ddpm")), backend="torch", threads=1)


def picture(at):
    return np.random.default_rng(at).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def explaining(root, target, pipeline=None, *, progress=lambda *_: None, n=3, **asked):
    lent = []

    @contextmanager
    def lend():
        assert pipeline is not None, "nothing is to be edited"
        lent.append(1)
        yield pipeline

    found = Explaining(
        audit="demo",
        asked=ExplainConfig(**(SMALL | asked)),
        target=target,
        lend=lend,
        fingerprint="editor",
        sources=[EditSource(image=f"i{at}", sha256=digest(str(at)), load=lambda at=at: picture(at)) for at in range(n)],
        size=SIDE,
        batch=2,
        store=edit_store(root),
        errors=nullcontext,
        progress=progress,
    )
    return found, lent


def twin(tmp_path):
    return {"colours": GradientOptions(file=colour_network(tmp_path / "colours.onnx"))}


def test_the_method_follows_from_what_can_be_had(tmp_path):
    """With a gradient guidance by it, without one by scores; asked methods are kept."""
    blind, _ = explaining(tmp_path, Coarse(EXACT))
    assert (blind.guide.rung, blind.method) == (Rung.FREE, "ensemble")
    seeing, _ = explaining(tmp_path, Coarse(EXACT), gradients=twin(tmp_path))
    assert (seeing.guide.rung, seeing.method) == (Rung.TWIN, GUIDED)
    asked, _ = explaining(tmp_path, Coarse(EXACT), gradients=twin(tmp_path), method="dvce")
    assert asked.method == "dvce"
    free, _ = explaining(tmp_path, Coarse(EXACT), gradients=twin(tmp_path), method="ensemble")
    assert free.method == "ensemble"
    told = seeing.told()
    assert (told.method, told.rung) == (GUIDED, "twin")
    assert "same class on 100.0% of 3 images" in told.rung_said


def test_what_cannot_be_had_is_refused_with_its_reasons(tmp_path):
    blind, lent = explaining(tmp_path, Coarse(EXACT), method="dvce")
    with pytest.raises(
        ConfigError, match=r"dvce needs the gradient of colours.*no gradient model 'colours_vjp'.*or use method ensemble"
    ):
        _ = blind.method
    twinless, _ = explaining(tmp_path, Coarse(EXACT), gradients={"colours": GradientOptions(rung=Rung.TWIN)})
    with pytest.raises(GradientError, match=r"set `gradients.file`"):
        _ = twinless.guide
    students, _ = explaining(tmp_path, Coarse(None), gradients={"colours": GradientOptions(rung=Rung.SURROGATE)})
    with pytest.raises(GradientError, match="labels alone"):
        _ = students.guide
    assert lent == []


def test_a_file_of_another_model_is_found_out_on_what_is_audited_and_said_at_once(tmp_path):
    """Of the explained images both models say the same; of a white one, which is only audited, they do not."""

    def other(images):
        return np.where(images.mean((1, 2, 3))[:, None] > 0.99, [0.1, 0.2, 0.3, 0.4], expected_probabilities(images))

    taken, _ = explaining(tmp_path, Coarse(EXACT, tells=other), gradients=twin(tmp_path))
    assert taken.guide.rung is Rung.TWIN
    white = EditSource(image="white", sha256=digest("white"), load=lambda: np.full((SIDE, SIDE, 3), 255, np.uint8))
    refused = replace(taken, references=[*taken.sources, white])
    with capture_logs() as logs:
        assert refused.guide.rung is Rung.FREE
    (said,) = logs
    assert (said["log_level"], said["instead"]) == ("warning", "gradient_free")
    assert "the twin is not the deployed model" in said["why"]


def test_network_rows_are_counted_where_they_are_spent(tmp_path, pipeline):
    """Of the start that is found once and of pictures made now; those that are there cost nothing."""
    asked = {"gradients": twin(tmp_path), "signal": None, "free": 0}
    found, _ = explaining(tmp_path / "bank", Coarse(EXACT), pipeline, **asked)
    wishes = [Wish(f"i{at}", 1) for at in range(2)]
    (one,) = found.studio.made(wishes[:1], found.ask)
    starts = found.spent[0] - one.network_rows
    assert starts >= 3  # of three images, one row or more each
    (_, two), before = found.studio.made(wishes, found.ask), found.spent[0]
    assert before == starts + one.network_rows + two.network_rows
    again, _ = explaining(tmp_path / "bank", Coarse(EXACT), pipeline, **asked)
    again.studio.made(wishes, again.ask)
    assert again.spent == [0]


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"red": "gren"}, "did you mean 'green'"),
        ({"red": ["blue", "red"]}, "own target: red"),
        ({"red": []}, "at least one target"),
    ],
)
def test_targets_are_checked_before_anything_is_made(tmp_path, targets, said):
    found, _ = explaining(tmp_path, Coarse(EXACT), targets=targets)
    with pytest.raises(ConfigError, match=rf"explain.targets: .*{said}"):
        _ = found.wanted


def test_every_other_class_or_a_chosen_few(tmp_path):
    assert explaining(tmp_path, Coarse(EXACT), targets="all")[0].wanted == "all"
    assert explaining(tmp_path, Coarse(EXACT))[0].wanted == "runner_up"
    few = {"red": ("green", "blue")}
    assert explaining(tmp_path, Coarse(EXACT), targets=few)[0].wanted == few


def test_a_start_is_as_deep_as_the_model_keeps_its_classes():
    """Drawn anew, more images change their class the deeper one starts; 95 % must keep it."""
    images = np.zeros((40, 3, 1, 1), np.float32)
    images[:20] = 1

    def predict(shown):
        return np.stack([1 - shown[:, 0, 0, 0], shown[:, 0, 0, 0]], 1)

    def unguided(loss):
        def drawn(signal):
            after = images.copy()
            after[: loss.get(signal, 0)] = 0
            return after

        return drawn

    assert deepest_start(predict, images, unguided({0.3: 9, 0.45: 3, 0.63: 2})) == 0.63
    assert deepest_start(predict, images, unguided({})) == SIGNALS[0]
    assert deepest_start(predict, images, unguided(dict.fromkeys(SIGNALS, 20))) == SIGNALS[-1]


def test_the_start_is_found_once_and_remembered(tmp_path, pipeline):
    """A second process finds it in the store; a configured one is taken as it is."""
    told = []

    def progress(_done, _total, what):
        told.append(what)

    for free in (1, 2):  # pictures of another plan, so that they are made
        asked = {"gradients": twin(tmp_path), "signal": None, "free": free}
        found, _ = explaining(tmp_path, Coarse(EXACT), pipeline, progress=progress, **asked)
        found.studio.made([Wish("i0", 1)], found.ask)
        assert ("starts of counterfactuals" in told) == (free == 1)
        told.clear()


def test_more_steps_than_the_editor_has_are_refused(tmp_path, pipeline):
    found, _ = explaining(tmp_path, Coarse(EXACT), pipeline, kept=100_000)
    with pytest.raises(ConfigError, match=r"explain.kept: the editor has \d+ steps, of which 100000 cannot be kept"):
        found.studio.made([Wish("i0", 1)], found.ask)


def test_no_start_is_looked_for_where_none_is_needed(tmp_path, pipeline):
    """Particles have starts of their own."""
    found, _ = explaining(tmp_path, Coarse(EXACT), pipeline, signal=None)
    (made,) = found.studio.made([Wish("i0", 1)], found.ask)
    assert found.method == "ensemble"
    assert found.spent == [made.network_rows]


def test_the_start_does_not_go_by_the_few_images_that_are_explained(tmp_path, pipeline):
    """It is kept for later runs, which may explain more: sixteen of all audited images are tried."""
    asked = {"gradients": twin(tmp_path), "signal": None}
    few, _ = explaining(tmp_path, Coarse(EXACT), pipeline, n=1, **asked)
    every, _ = explaining(tmp_path, Coarse(EXACT), pipeline, n=20, **asked)
    found = replace(few, references=every.sources)
    (made,) = found.studio.made([Wish("i0", 1)], found.ask)
    assert found.spent[0] - made.network_rows >= 16


@pytest.mark.parametrize("decimals", [EXACT, 2, None])
@pytest.mark.parametrize("guided", [False, True])
def test_pictures_are_made_whatever_the_server_tells(tmp_path, pipeline, decimals, guided):
    """With and without a gradient, of exact scores, two decimals and labels alone; every picture that was sent is counted."""
    target = Coarse(decimals)
    found, lent = explaining(tmp_path, target, pipeline, n=2, gradients=twin(tmp_path) if guided else {})
    assert found.method == (GUIDED if guided else "ensemble")
    shown = target.asked
    made = found.studio.made([Wish("i0", 1), Wish("i1", 2)], found.ask)
    assert all(one.queries > 0 and one.network_rows > 0 for one in made)
    steps = 0 if decimals is None else 2  # how exact its answers are was seen on the images
    assert sum(one.queries for one in made) == target.asked - shown - steps
    assert lent == [1] * (1 if guided else 2)  # by scores one picture at a time, so that none is lost to an interruption
    nothing, unused = explaining(tmp_path, target, None, n=2, gradients=twin(tmp_path) if guided else {})
    assert nothing.studio.made([Wish("i0", 1), Wish("i1", 2)], None) == made
    assert unused == []


def test_one_class_of_independent_ones_is_flipped_by_its_own_gradient(tmp_path, pipeline):
    """Its presence and its absence are targets of each other, whatever the other classes do."""

    def sigmoids(images):
        return 1 / (1 + np.exp(-expected_logits(images)))

    target = OneClass(Coarse(EXACT, tells=sigmoids), "green")
    given = {"colours": GradientOptions(file=sigmoid_network(tmp_path / "sigmoid.onnx"), of_class="green")}
    found, _ = explaining(tmp_path, target, pipeline, n=2, gradients=given, free=0)
    assert (found.guide.rung, found.method, found.wanted) == (Rung.TWIN, GUIDED, "runner_up")
    shown = found.shown()
    before = target.predict(shown)
    wishes = [Wish(f"i{at}", int(1 - row.argmax())) for at, row in enumerate(before)]
    made = found.studio.made(wishes, found.ask)
    after = target.predict(to_float([found.studio.pixels(one.after) for one in made]))
    for at, wish in enumerate(wishes):
        assert after[at, wish.target] > before[at, wish.target]


def test_only_what_changes_pictures_makes_them_anew(tmp_path):
    keys = [
        explaining(tmp_path, Coarse(EXACT), **asked)[0].studio.key
        for asked in ({}, {"images": 5}, {"paths": 3}, {"targets": "all"}, {"steps": 3}, {"method": "ensemble"}, {"free": 2})
    ]
    assert keys[0] == keys[1] == keys[2] == keys[3] == keys[5]
    assert len({keys[0], keys[4], keys[6]}) == 3


def test_dvce_stays_in_the_cone_of_a_robust_model(tmp_path, pipeline):
    """Other pictures than without one; a model of other classes is refused."""
    weight = np.roll(WEIGHT, 1, axis=0)
    robust = colour_network(tmp_path / "robust.onnx", weight=weight)
    few = colour_network(tmp_path / "few.onnx", weight=WEIGHT[:, :2], bias=BIAS[:2])
    made = []
    for folder, file in (("plain", ""), ("cone", str(robust))):
        found, _ = explaining(
            tmp_path / folder, Coarse(EXACT), pipeline, n=1, gradients=twin(tmp_path), method="dvce", robust=file, free=0
        )
        made += [one.after for one in found.studio.made([Wish("i0", 1)], found.ask)]
    assert made[0] != made[1]
    other, _ = explaining(
        tmp_path / "few", Coarse(EXACT), pipeline, n=1, gradients=twin(tmp_path), method="dvce", robust=str(few), free=0
    )
    with pytest.raises(GradientError, match=r"explain.robust: .*few.onnx answers 2 classes, the audited model 4"):
        other.studio.made([Wish("i0", 1)], other.ask)


def test_students_whose_flips_do_not_transfer_are_replaced_by_the_server(tmp_path, pipeline, monkeypatch):
    """What they are taught again with, and that the rest was searched by scores, is in the record."""

    class Wrong:
        """Students that see every target in everything, and are never any better."""

        def __call__(self, images):
            return images.mean((1, 2, 3))[:, None] * torch.tensor([0.0, 1e-3, 0, 0]) + torch.tensor([0.0, 5.0, 0, 0])

    monkeypatch.setattr(watched, "taught_again", lambda surrogate, *_more, **_named: surrogate)
    monkeypatch.setattr(watched, "examine", lambda *_, **__: None)
    monkeypatch.setattr(watched, "check_transfer", lambda *_: None)
    monkeypatch.setattr(watched, "FEWEST", 2)
    stubborn = Coarse(EXACT, tells=lambda images: np.tile([0.9, 0.1, 0.0, 0.0], (len(images), 1)))
    found, _ = explaining(tmp_path, stubborn, pipeline, n=5)
    judge = WatchedSurrogate(surrogate=Wrong(), predict=stubborn.predict, options=StudentOptions())
    found.__dict__["guide"] = Guide(rung=Rung.SURROGATE, judge=judge, said="taught")
    assert found.method == GUIDED
    assert found.told().rung_said == "taught"
    found.studio.made([Wish(f"i{at}", 1) for at in range(5)], found.ask)
    told = found.told()
    assert told.rung == "surrogate"
    assert told.rung_said == "taught; 0 of 4 flips of its own are flips of the deployed model"
    assert [note.split(":")[0] for note in told.notes] == [
        "0% of the students' flips were flips of the deployed model (at least 60% are needed)",
        "the surrogate was given up, and later pictures made without gradients",
    ]


def test_students_are_taught_with_all_images_there_are_and_what_the_editor_makes_of_them(tmp_path, pipeline):
    """Up to the budget, each asked once; the images that are explained are some of them."""
    easy = StudentOptions(students=1, widths=(8,), epochs=1, top1=0, top1_generated=0, rises=0, times_random=-1e9)
    target, told = Coarse(EXACT), []
    found, _ = explaining(
        tmp_path, target, pipeline, n=2, progress=lambda done, total, what: told.append((done, total, what)),
        gradients={"colours": GradientOptions(rung=Rung.SURROGATE, queries=60, student=easy)},
    )  # fmt: skip
    more = tuple(EditSource(image=f"r{at}", sha256=digest("r", str(at)), load=lambda at=at: picture(at)) for at in range(20))
    object.__setattr__(found, "references", more)
    judge = found.guide.judge
    lesson = judge.surrogate.lesson()
    assert len(lesson.pictures) + len(lesson.held_out) == 60
    assert 0 < lesson.drawn.sum() < len(lesson.held_out)
    assert ("pictures for students", 60, 60) in {(what, done, total) for done, total, what in told}
    assert target.asked == 60 + 3 * len(lesson.held_out)
    later, lent = explaining(tmp_path, target, n=2, gradients=found.asked.gradients)
    object.__setattr__(later, "references", more)
    assert later.guide.rung is Rung.SURROGATE
    assert (lent, target.asked) == ([], 60 + 3 * len(lesson.held_out))  # read back from beside the bank
