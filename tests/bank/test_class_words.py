"""Words for a model's classes, from what is configured to pictures: labels alone, learned once, refused where nobody reads words."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from audit_plugin.bank.class_words import ClassWordShelf
from audit_plugin.bank.counterfactuals import Wish
from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.config import ExplainConfig
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.seeds import digest
from audit_plugin.explaining import Explaining
from engines.pipeline import load_pipeline
from tests.engines.conftest import write_pipeline
from tests.engines.pipelines import miniatures
from tests.target.gradients.deployed import Coarse

SIDE = 16


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return load_pipeline(write_pipeline(tmp_path_factory.mktemp("words")), backend="torch", threads=1)


def picture(at):
    """Dark for even numbers, bright for odd ones."""
    return np.full((SIDE, SIDE, 3), 40 + 3 * at + 100 * (at % 2), np.uint8)


def tells(images):
    """Red of the dark pictures that were photographed, else green: whatever is drawn has left what it was."""
    flat = images.reshape(len(images), -1)
    dark = (flat.max(1) == flat.min(1)) & (flat.max(1) < 0.5)
    return np.where(dark[:, None], [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1])


def sources(n=10):
    return [EditSource(image=f"i{at}", sha256=digest(str(at)), load=lambda at=at: picture(at)) for at in range(n)]


def shelf(root, target, *, said=None, **changed):
    return ClassWordShelf(
        **{
            "store": edit_store(root), "editor": "editor", "model": target.info.id, "labels": target.info.labels,
            "predict": target.predict, "sources": sources(), "size": SIDE, "iterations": 2,
            "progress": lambda *told: None if said is None else said.append(told), **changed,
        }
    )  # fmt: skip


def test_words_are_learned_once_for_classes_that_are_seen(tmp_path, pipeline):
    """Five dark and five bright images: red and green have words, blue has none; a second process learns and asks nothing."""
    target, said = Coarse(None, tells), []
    made = shelf(tmp_path, target, said=said).learned(pipeline, frozenset({0, 1, 2}))
    assert sorted(made.classes) == [0, 1]
    assert target.asked == 10
    assert {what for *_, what in said} == {
        "classes of reference images", "words for all images", "words for class red", "words for class green",
    }  # fmt: skip
    said.clear()
    again = shelf(tmp_path, target, said=said).learned(pipeline, frozenset({0, 1}))
    assert said == []
    assert target.asked == 10
    for column in (0, 1):
        np.testing.assert_array_equal(again.classes[column][0], made.classes[column][0])
    assert not np.array_equal(made.classes[0][0], made.classes[1][0])


def test_another_version_is_asked_anew_and_shares_the_words_for_all(tmp_path, pipeline):
    target, said = Coarse(None, tells), []
    shelf(tmp_path, target).learned(pipeline, frozenset({0}))
    newer = shelf(tmp_path, target, said=said, model="colours 2")
    newer.learned(pipeline, frozenset({0}))
    assert target.asked == 20
    assert "words for all images" not in {what for *_, what in said}
    assert "words for class red" in {what for *_, what in said}
    assert (
        len({shelf(tmp_path, target, **each).key for each in ({}, {"model": "2"}, {"sources": sources(9)}, {"iterations": 3})}) == 4
    )


def explaining(root, target, pipeline, **asked):
    @contextmanager
    def lend():
        yield pipeline

    return Explaining(
        audit="demo",
        asked=ExplainConfig(**({"method": "time", "references": 10, "word_steps": 1} | asked)),
        target=target,
        lend=lend,
        fingerprint="editor",
        sources=sources(3),
        references=sources(),
        size=pipeline.image_shape[-1],
        batch=2,
        store=edit_store(root),
        errors=nullcontext,
        progress=lambda *_: None,
    )


def test_time_explains_a_server_that_tells_labels_alone(tmp_path, pipeline):
    """One question for what an image is, one for its first try; an image that is its target already is left at the first."""
    target = Coarse(None, tells)
    found = explaining(tmp_path, target, pipeline)
    assert (found.method, found.told().rung) == ("time", "gradient_free")
    made = found.studio.made([Wish("i0", 1), Wish("i1", 1), Wish("i2", 1)], None)
    assert [(one.attempts, one.queries) for one in made] == [(1, 2), (0, 1), (1, 2)]
    asked = target.asked
    assert explaining(tmp_path, target, pipeline).studio.made([Wish("i0", 1)], None) == made[:1]
    assert target.asked - asked <= 3  # how its gradient may be had, not what it says of the picture
    other = explaining(tmp_path, target, pipeline, references=9)
    assert other.studio.key != found.studio.key


def test_an_editor_that_reads_no_words_is_refused(tmp_path, tmp_path_factory):
    deaf = load_pipeline(miniatures.save(miniatures.ddpm, tmp_path_factory.mktemp("deaf")), backend="torch", threads=1)
    found = explaining(tmp_path, Coarse(None, tells), deaf)
    with pytest.raises(ConfigError, match=r"explain.method: time needs an editor that draws captions.*or use method ensemble"):
        found.studio.made([Wish("i0", 1)], None)
