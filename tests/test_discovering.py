"""A discovery on one model whose pictures and answers are known in closed form; a real server is asked in the end-to-end tests."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.discovery_results import Mode, WordPart, from_json, to_json
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.core.values import TargetInfo
from audit_plugin.discovering import MOST_CLASSES, Discovering, attached, budgeted
from audit_plugin.methods.diffex.limits import DiffexLimits
from audit_plugin.methods.diffexplainer.asking import LimitReachedError
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from tests.bank.world import FakeScores, silent
from tests.findings.found import discovery, subject, word
from tests.methods.diffexplainer.planted_words import CAPTIONS

OPTIONS = DiscoveryOptions(
    screen_seeds=2, shortlist=9, again_seeds=4, keep=9, pairs=24, beam=2, depth=1, compose_seeds=4, verify=24
)
PLACES = {"sand": (0.7, 0.6, 0.3), "grass": (0.2, 0.6, 0.2), "water": (0.2, 0.3, 0.7)}
COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 0.5, 0.0), "blue": (0.0, 0.0, 0.8)}


def draw(prompts, seeds):
    """A thing of its colour on its place, circles and squares where they never meet, and white at the lower edge for a ruler."""
    return np.stack([_picture(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]).astype(np.float32)


def _picture(prompt, seed):
    rng = np.random.default_rng(seed)
    image = np.empty((3, 16, 16))
    image[:] = np.array(next(PLACES[name] for name in PLACES if name in prompt))[:, None, None]
    image += rng.normal(0, 0.02, image.shape)
    y, x = rng.integers(1, 4, 2)
    if "circle" in prompt or "square" in prompt:
        x += 6 * ("square" in prompt)
        image[:, y : y + 5, x : x + 5] = np.array(next(COLOURS[name] for name in COLOURS if name in prompt))[:, None, None]
    if "ruler" in prompt:
        image[:, -2:] = 1.0
    return image.clip(0, 1)


def of_ruler(images):
    """How white the lower edge is."""
    return 40 * (images[:, :, -2:].min((1, 2, 3)) - 0.5)


def of_red_things(images):
    """Whether anything is red."""
    return 10 * ((images[:, 0] - images[:, 1:].max(1)).max((1, 2)) - 0.5)


@dataclass
class Target:
    """In place of a connected server: what a discovery asks of one."""

    odds: object
    labels: tuple[str, ...] = ("negative", "positive")
    labels_only: bool = False
    counts: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(images=0))
    contract: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(activation=SimpleNamespace(value="softmax")))

    @property
    def info(self):
        return TargetInfo(model="toy", version="1", config_hash="", server="none", labels=self.labels, scoring="")

    def predict(self, images):
        self.counts.images += len(images)
        p = 1 / (1 + np.exp(-self.odds(images)))
        both = np.stack([1 - p, p], 1)
        return np.eye(2)[both.argmax(1)] if self.labels_only else both


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Pictures that all these discoveries share."""
    return edit_store(tmp_path_factory.mktemp("drawn") / "bank")


@pytest.fixture
def discovering(drawn):
    def make(odds, *, asked=None, nodes=(), labels_only=False, **changes):
        config = {"classes": ("positive",), "objects": {"positive": "circle"}, "options": OPTIONS, **(asked or {})}
        studio = PromptStudio(fingerprint="toy", draw=lambda: draw, store=drawn, batch=64, progress=silent)
        settings = {
            "audit": "audit",
            "asked": DiscoverConfig(**config),
            "target": Target(odds, labels_only=labels_only),
            "studio": studio,
            "scores": FakeScores(),
            "phrasing": CAPTIONS,
            "vocabulary": tuple,
            "generator": "toy",
            "rows_per_picture": lambda: 3,
            "tree": ConceptTree(domain="toy", nodes=tuple(nodes)),
        }
        return Discovering(**{**settings, **changes})

    return make


def told(found, name):
    """What decided on a word of the only subject."""
    (one,) = found.subjects
    (word,) = [word for word in one.words if word.word == name]
    return word


def test_a_model_of_a_ruler_is_told_from_a_model_of_its_thing(discovering):
    """By covering what disappears when the thing is left out of the prompt, and by covering all else."""
    asked = discovering(of_ruler)
    ruler = asked.run()
    assert {one.word for _, one in ruler.causes} == {"with a ruler"}
    assert (told(ruler, "with a ruler").part, told(ruler, "with a ruler").part_by) == (WordPart.SPURIOUS, "occlusion")
    red = discovering(of_red_things).run()
    assert {one.word for _, one in red.causes} == {"red"}
    assert (told(red, "red").part, told(red, "red").part_by) == (WordPart.CORE, "occlusion")
    assert from_json(to_json(ruler)) == ruler
    assert ruler.mode is Mode.SCORES
    assert (ruler.network_rows, ruler.words, ruler.notes) == (3 * asked.studio.drawn[0], len(CAPTIONS.phrases), ())


class Independent(Target):
    """Of probabilities that do not add up: the first class holds everywhere, and more surely."""

    def predict(self, images):
        return np.stack([np.full(len(images), 0.999), 0.99 * super().predict(images)[:, 1]], 1)


@pytest.mark.parametrize(("independent", "causes"), [(True, {"with a ruler"}), (False, set())])
def test_classes_that_hold_at_once_are_decided_each_by_itself(discovering, independent, causes):
    found = discovering(of_ruler, target=Independent(of_ruler), independent=independent).run()
    assert {one.word for _, one in found.causes} == causes


def test_labels_alone_find_it_too(discovering):
    """Without shifts of a score that nobody gives."""
    found = discovering(of_ruler, labels_only=True).run()
    assert found.mode is Mode.LABELS
    assert {one.word for _, one in found.causes} == {"with a ruler"}
    assert all(one.shift is None for one in found.subjects[0].words)
    assert found.fit.near_real is None


@pytest.mark.parametrize(
    ("changes", "part", "by"),
    [
        ({"kind": NodeKind.CORE}, WordPart.CORE, "person"),
        ({"kind": NodeKind.CORE, "source": "vlm"}, WordPart.CORE, "tree"),
        ({"kind": NodeKind.ARTEFACT}, WordPart.SPURIOUS, "person"),
        ({"kind": NodeKind.ARTEFACT, "source": "diffexplainer"}, WordPart.SPURIOUS, "tree"),
        ({"kind": NodeKind.NUISANCE, "source": "diffexplainer"}, WordPart.SPURIOUS, "occlusion"),
        ({"kind": NodeKind.CONTEXT}, WordPart.SPURIOUS, "occlusion"),
    ],
)
def test_who_decides_what_belongs_to_a_class(discovering, changes, part, by):
    """The tree, unless it says only what a discovery proposed itself; else the pictures."""
    node = Node(path="found/ruler", name="ruler", prompt_add="with a ruler", **changes)
    found = told(discovering(of_ruler, nodes=[node]).run(), "with a ruler")
    assert (found.part, found.part_by, found.node, found.kind) == (part, by, node.path, node.kind)


def test_the_word_for_the_class_itself_is_core(discovering):
    found = discovering(of_red_things, asked={"objects": {"positive": "the red"}}).run()
    assert (told(found, "red").part, told(found, "red").part_by) == (WordPart.CORE, "person")


def test_nothing_is_decided_where_nobody_knows_the_object(discovering):
    found = discovering(of_ruler, asked={"objects": {}}).run()
    assert (told(found, "with a ruler").part, told(found, "with a ruler").inside) == (WordPart.UNKNOWN, None)
    assert "give `discover.objects`" in found.notes[0]


def test_classes_are_told_apart_by_name_and_by_number(discovering):
    many = tuple(f"class {at}" for at in range(MOST_CLASSES + 5))
    every = discovering(of_ruler, asked={"classes": ()}, target=Target(of_ruler, many))
    assert [one.column for one in every.subjects] == list(range(MOST_CLASSES))
    some = discovering(of_ruler, asked={"classes": (many[-1],)}, target=Target(of_ruler, many))
    assert [(one.name, one.column) for one in some.subjects] == [(many[-1], MOST_CLASSES + 4)]
    named = discovering(of_ruler, asked={"named": True}, phrasing=Sentences(), target=Target(of_ruler, ("no", "polar_bear")))
    with pytest.raises(ConfigError, match="has no class 'positive'; it has no, polar_bear"):
        _ = named.subjects
    asked = replace(named.asked, classes=("polar_bear",))
    assert [one.phrasing for one in replace(named, asked=asked).subjects] == [None, Sentences(("a photo of a polar bear",))]


def test_captions_say_what_a_class_is_about_where_they_have_a_place_for_it(discovering):
    """The object's word in place of what stands there; a class without one is left out, which is noted."""
    named = discovering(of_ruler, asked={"named": True, "classes": ("positive", "negative"), "objects": {"positive": "circle"}})
    positive, negative, again = named.subjects
    assert (positive.phrasing, negative.phrasing, again.name) == (None, None, "positive")
    assert all("circle" in caption and "square" not in caption for caption in again.phrasing.contexts)
    assert again.phrasing.exchanged == CAPTIONS.exchanged
    found = discovering(of_ruler, asked={"named": True}).run()
    assert [one.named for one in found.subjects] == [False, True]
    assert "with a ruler" in {word.word for word in found.subjects[1].words if word.causes}
    assert any("do not say negative" in note for note in named.run().notes)


def test_own_names_are_not_tried(discovering):
    one = discovering(of_ruler, target=Target(of_ruler, ("circle", "polar_bear")))
    assert {"square", "circle"} & {word.word for word in one.bank} == {"square"}


def test_limits_are_kept_before_they_are_passed():
    """Of rows by what is about to be drawn; of time by the clock since the beginning."""
    allow = budgeted(DiscoverConfig(limits=DiffexLimits(network_rows=30)), drawn := [0], lambda: 3)
    allow(10)
    drawn[0] = 6
    allow(4)
    with pytest.raises(LimitReachedError, match="network_rows"):
        allow(5)
    allow = budgeted(DiscoverConfig(limits=DiffexLimits(wall_minutes=0.0, network_rows=None)), [0], lambda: 3)
    with pytest.raises(LimitReachedError, match="wall_minutes"):
        allow(1)


def test_words_point_at_the_tree_as_it_is_now():
    found = discovery(subject(word("with a ruler", node="", kind=None), word("sofa", node="old/sofa")))
    node = Node(path="new/ruler", name="ruler", kind=NodeKind.CORE)
    (one,) = attached(found, {"ruler": node}).subjects
    assert [(each.node, each.kind) for each in one.words] == [("new/ruler", NodeKind.CORE), ("old/sofa", NodeKind.ARTEFACT)]
