"""A discovery whose pictures are looked at: described by a vision model on loopback, compared with words, searched for objects."""

import json
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.concepts.picture_captions import Captioner
from audit_plugin.concepts.questions import VisionOptions
from audit_plugin.core.discovery_results import Mode, WordPart, from_json, to_json
from audit_plugin.core.errors import DetectorError
from audit_plugin.methods.diffexplainer.units import UnitReader, activations, usual
from audit_plugin.methods.diffexplainer.word_bank import BankWord
from audit_plugin.perception.segmenters import Segmenter, SegmenterOptions
from audit_plugin.sources.images import to_float
from tests.concepts.chat_stand import Stand, served
from tests.test_discovering import Target, discovering, draw, drawn, of_red_things, of_ruler, told  # noqa: F401  (fixtures)


def described(picture):
    """By what its pixels show."""
    shown = to_float([picture])
    thing = "red thing" if of_red_things(shown)[0] > 0 else "thing"
    bar = " with a white ruler at the edge" if of_ruler(shown)[0] > 0 else ", without a ruler"
    return json.dumps({"caption": f"A {thing} on flat ground{bar}."})


@pytest.fixture
def captioner(drawn, tmp_path):  # noqa: F811
    def make(url):
        options = VisionOptions(endpoint=url, model="small", retries=0)
        return Captioner(options=options, file=tmp_path / "captions.jsonl", load=drawn.pictures.pixels, pause_seconds=0.0)

    return make


def with_bank(one, *names):
    """It, with these words alone."""
    one.__dict__["bank"] = tuple(BankWord(word=name, source="file") for name in names)
    return one


def test_words_are_told_by_prompts_where_nobody_looks(discovering):  # noqa: F811
    """The word that acts is said oftener of pictures that are taken for the class; it costs no picture and no query."""
    found = discovering(of_ruler).run()
    ruler = told(found, "with a ruler")
    assert (ruler.lift_by, ruler.margin) == ("prompts", None)
    assert ruler.lift > 1
    assert ruler.lift_q < 1e-6
    assert told(found, "sand").lift_q > 0.05
    older = json.loads(to_json(found))
    for word in older["subjects"][0]["words"]:
        del word["lift_by"], word["margin"]
    assert {(word.lift_by, word.margin) for word in from_json(json.dumps(older)).subjects[0].words} == {("", None)}


def test_captions_propose_words_and_the_paired_test_decides(discovering, captioner):  # noqa: F811
    """A bank without the ruler: captions say it, prompts can, and the server confirms it.  A second run sends nothing."""
    with served(Stand(described)) as (url, stand):
        first = with_bank(discovering(of_ruler, captioner=captioner(url)), "sand", "red").run()
        (subject,) = first.subjects
        sent = len(stand.bodies)
        again = with_bank(discovering(of_ruler, captioner=captioner(url)), "sand", "red").run()
        assert again.subjects == first.subjects
    assert 0 < sent <= 100
    assert len(stand.bodies) == sent
    ruler = told(first, "with a ruler")
    assert (ruler.source, ruler.causes, ruler.lift_by) == ("pictures", True, "captions")
    assert ruler.lift_q < 0.05
    assert "captions of" in subject.notes[0]
    assert "white ruler" in subject.notes[0]
    assert "white ruler" not in {word.word for word in subject.words}
    assert from_json(to_json(first)) == first


def test_sentences_take_what_captions_say_as_it_is_but_no_class_name(discovering, captioner):  # noqa: F811
    """A generator of any sentence is told "white ruler", which has no place in captions of a form."""
    with served(Stand(described)) as (url, _):
        one = discovering(
            of_ruler, captioner=captioner(url), phrasing=Sentences(("a red circle on sand", "a blue square on grass"))
        )
        found = with_bank(one, "with a ruler", "water").run()
        ruler = told(found, "white ruler")
        assert (ruler.source, ruler.causes) == ("pictures", True)
        named = discovering(
            of_ruler, captioner=captioner(url), phrasing=one.phrasing, target=Target(of_ruler, ("negative", "ruler"))
        )
        named = with_bank(replace(named, asked=replace(named.asked, classes=("ruler",), objects={})), "with a ruler", "water")
        assert "white ruler" not in {word.word for word in named.run().subjects[0].words}


def test_an_endpoint_that_fails_costs_nothing_but_its_captions(discovering, captioner):  # noqa: F811
    """One warning, one note, and the same words as without it."""
    plain_run = discovering(of_ruler).run()
    with served(Stand(described, status=500)) as (url, _), capture_logs() as logs:
        found = discovering(of_ruler, captioner=captioner(url), asked={"classes": ()}).run()
    assert len([one for one in logs if "described no further" in one["event"]]) == 1
    assert "pictures were described no further" in found.notes[0]
    (positive,) = [one for one in found.subjects if one.name == "positive"]
    assert positive.words == plain_run.subjects[0].words


def test_in_gradient_mode_captions_need_no_bank(discovering, captioner):  # noqa: F811
    """Only what a gradient and captions speak for is tested."""

    def hints(subject):
        return replace(subject, hints=(BankWord(word="red", source="prompt"),))

    with served(Stand(described)) as (url, _):
        found = discovering(of_ruler, captioner=captioner(url), asked={"mode": "gradient"}, mode=Mode.GRADIENT, prepare=hints).run()
    assert {word.word: word.source for word in found.subjects[0].words} == {"red": "prompt", "with a ruler": "pictures"}
    assert told(found, "with a ruler").causes


class Eyes:
    """In place of an image-text model: how white the lower edge is, and the rest."""

    fingerprint = "eyes"

    def images(self, images):
        edge = (of_ruler(images) > 0).astype(float)
        return np.stack([edge, 1 - edge], 1)

    def texts(self, texts):
        return np.array([[1.0, 0.0] if "ruler" in text else [0.7, 0.7] for text in texts])


def test_margins_say_how_much_closer_words_are(discovering):  # noqa: F811
    found = discovering(of_ruler, image_text=Eyes).run()
    assert told(found, "with a ruler").margin > 0.3
    assert abs(told(found, "sand").margin) < 0.05


def test_a_model_that_cannot_be_opened_leaves_margins_out(discovering):  # noqa: F811
    def broken():
        raise DetectorError("no such directory")

    with capture_logs() as logs:
        found = discovering(of_ruler, image_text=broken).run()
    assert told(found, "with a ruler").margin is None
    assert [one["why"] for one in logs if "held against" in one["event"]] == ["no such directory"]


def of_things(images):
    """Two channels, of which the first is bright where a picture is coloured as things are, and nowhere else."""
    spread = images.max(1) - images.min(1)
    flat = ((spread > 0.6) | (images.max(1) < 0.55)).astype(float)
    return np.stack([8 * (2 * flat - 1), np.zeros_like(flat)], 1)


def segmenter(**options):
    known = SegmenterOptions(file="none.onnx", channels={"circle": 0}, activation="sigmoid", min_area=0.04, **options)
    return Segmenter(name="things", options=known, run=of_things)


def test_masks_decide_what_belongs_to_a_class(discovering):  # noqa: F811
    """In place of pictures drawn again, which take no further drawing then."""
    ruler = discovering(of_ruler, segmenter=segmenter()).run()
    found = told(ruler, "with a ruler")
    assert (found.part, found.part_by) == (WordPart.SPURIOUS, "segmentation")
    assert found.inside.high < 0.25
    red = told(discovering(of_red_things, segmenter=segmenter()).run(), "red")
    assert (red.part, red.part_by) == (WordPart.CORE, "segmentation")
    assert red.inside.low > 0.5


def test_objects_that_are_missing_are_counted(discovering):  # noqa: F811
    """Pictures of the best prompt that are taken for the class: the ruler is enough where contexts show no thing at all."""
    bare_ground = Sentences(("sand", "grass", "water"))
    with_things = discovering(of_ruler, segmenter=segmenter()).run().subjects[0]
    assert with_things.object_absent.value < 0.1
    one = discovering(of_ruler, segmenter=segmenter(), phrasing=bare_ground)
    (without,) = with_bank(one, "with a ruler").run().subjects
    assert without.object_absent.low > 0.8
    assert without.notes == ("circle by the segmenter at its given threshold, 0.40: too few labelled real images to check it",)


def test_thresholds_are_held_against_real_images_of_the_class(discovering):  # noqa: F811
    real = draw(["a red circle on sand"] * 12, range(12))
    known = discovering(of_ruler, segmenter=segmenter(), real_of=lambda name: real if name == "positive" else real[:0])
    (one,) = known.run().subjects
    assert one.notes == ("circle by the segmenter, threshold kept at 0.40: there it finds 100% of 12 real images' objects",)


def test_an_object_without_a_channel_is_told(discovering):  # noqa: F811
    known = discovering(of_ruler, segmenter=segmenter(), asked={"objects": {"positive": "square"}})
    (one,) = known.run().subjects
    assert one.notes == ("the segmenter has no channel for its object",)
    assert one.object_absent is None


@pytest.mark.parametrize("bright", [1, 90])
@pytest.mark.parametrize(("what", "part"), [(of_ruler, WordPart.SPURIOUS), (of_red_things, WordPart.CORE)])
def test_maps_of_hidden_units_decide_for_themselves(discovering, what, part, bright):  # noqa: F811
    """Bright where the edge is white, or where something is red; masks say which of it is the object.  Where real pictures are as bright, a word that
    moves the unit makes none of them unusual.
    """

    def maps(images):
        bright = images.min(1) ** 8 if what is of_ruler else (images[:, 0] - images[:, 1:].max(1) > 0.5).astype(float)
        return np.stack([np.zeros_like(bright), bright], 1).astype(float)

    real = draw(["a blue square on water"] * 9 + ["a red circle on sand with a ruler"] * bright, range(9 + bright))
    ask = lambda images: activations(maps(images), "map")  # noqa: E731
    reader = UnitReader(output="map", units=(1,), ask=ask, usual=usual(ask(real)[:, [1]]), maps=maps)
    found = discovering(what, units=[reader], segmenter=segmenter()).run()
    (unit,) = [one for one in found.subjects if one.kind == "unit"]
    word = next(word for word in unit.words if word.causes)
    assert word.word == ("with a ruler" if what is of_ruler else "red")
    assert (word.part, word.part_by) == (part, "segmentation")
    assert unit.object_absent is None
