"""Blends of words by a real miniature pipeline, kept in the bank and asked about on a model in closed form."""

from contextlib import contextmanager, nullcontext

import pytest

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.blends import Blends
from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.discovery_results import from_json, to_json
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree
from audit_plugin.discovering import Discovering
from audit_plugin.methods.diffex.limits import DiffexLimits
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions, SubspaceSearch
from engines.pipeline import load_pipeline
from tests.bank.world import FakeScores, silent
from tests.engines.pipelines import miniatures
from tests.test_discovering import Target

OPTIONS = DiscoveryOptions(
    screen_seeds=2, shortlist=4, again_seeds=2, keep=3, pairs=10, beam=1, depth=2, compose_seeds=1, verify=10
)
SEARCH = SubspaceSearch(budget=40, population=4, pairs=3, labels_budget=90, label_seeds=2, augmentations=3)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    def load(make):
        return load_pipeline(miniatures.save(make, tmp_path_factory.mktemp("pipeline")), backend="torch", threads=1, steps=1)

    return {"words": load(miniatures.stable_diffusion), "none": load(miniatures.ddpm)}


class World:
    """A bank and a server's answers that last, and discoveries on them."""

    def __init__(self, pipelines, store):
        self.pipelines, self.store, self.scores, self.lent = pipelines, store, FakeScores(), 0

    def run(self, *, labels_only=False, blended="words", limits=None, **changes):
        studio = PromptStudio(
            fingerprint="mini", draw=lambda: self.pipelines["words"].generate, store=self.store, batch=32, progress=silent
        )

        @contextmanager
        def lend():
            self.lent += 1
            yield self.pipelines[blended]

        def spans(answers):
            return Blends(lend=lend, errors=nullcontext, studio=studio, answers=answers, workers=lambda: 2 if changes else 1).span

        asked = {"classes": ("positive",), "options": OPTIONS, "subspace": SEARCH, "limits": limits or DiffexLimits(), **changes}
        return Discovering(
            audit="audit",
            asked=DiscoverConfig(**asked),
            target=Target(lambda images: 200 * (images[:, 0] - images[:, 2]).mean((1, 2)), labels_only=labels_only),
            studio=studio,
            scores=self.scores,
            phrasing=Sentences(("a photo",)),
            vocabulary=lambda: ("red", "green", "blue", "circle", "square"),
            generator="mini",
            rows_per_picture=lambda: 1,
            tree=ConceptTree(domain="toy", nodes=()),
            spans=spans,
        ).run()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Pictures that all these discoveries share."""
    return edit_store(tmp_path_factory.mktemp("drawn") / "bank")


@pytest.fixture
def world(pipelines, store):
    return World(pipelines, store)


def blends(found):
    return [prompt for one in found.subjects for prompt in one.prompts if prompt.how in {"CMA-ES", "NES"}]


def test_a_search_that_is_made_again_draws_nothing_and_asks_nothing(world):
    """Nor does it load the generator: what blends are of lies in the bank, too."""
    first = world.run()
    (blend,) = blends(first)
    assert blend.text.endswith(', on top of "a photo"')
    assert len(blend.pictures) == OPTIONS.verify
    assert all(world.store.pictures.pixels(picture.sha256).shape == (16, 16, 3) for picture in blend.pictures)
    assert "blends" in first.mode_said
    assert from_json(to_json(first)) == first
    lent = world.lent
    again = world.run()
    assert (again.subjects, again.queries, again.network_rows, world.lent) == (first.subjects, 0, 0, lent)
    assert world.run(subspace=None).subjects[0].prompts == tuple(one for one in first.subjects[0].prompts if one != blend)


def test_nes_is_told_by_its_name_and_draws_in_two_threads(world):
    found = world.run(subspace=SubspaceSearch(method="nes", budget=40, population=4, pairs=3))
    assert [one.how for one in blends(found)] == ["NES"]


def test_by_labels_every_picture_is_looked_at_several_times(world):
    """Looks cost queries, no rows of the network."""
    words = world.run(labels_only=True, subspace=None)
    found = world.run(labels_only=True)
    assert [one.how for one in blends(found)] == ["CMA-ES"]
    assert found.queries > 2 * found.network_rows
    assert found.network_rows <= 90 / 3 + 2 * OPTIONS.verify
    assert found.subjects[0].words == words.subjects[0].words
    with pytest.raises(
        ConfigError, match=r"discover\.subspace\.method: nes needs scores, and toy answers with labels alone; use cmaes"
    ):
        world.run(labels_only=True, subspace=SubspaceSearch(method="nes"))


def test_a_limit_ends_the_search_and_the_next_one_goes_on(world):
    """The subject that it leaves is whole but for the blend."""
    words = world.run(subspace=None)
    stopped = world.run(limits=DiffexLimits(classifier_queries=30))
    assert (stopped.stopped, stopped.queries) == ("classifier_queries", 30)
    assert stopped.subjects == words.subjects
    rest = world.run(limits=DiffexLimits(network_rows=1000))
    assert len(blends(rest)) == 1
    assert rest.queries < 40 + 2 * OPTIONS.verify - 20


def test_a_generator_that_takes_no_words_is_a_note(pipelines, tmp_path):
    found = World(pipelines, edit_store(tmp_path / "bank")).run(blended="none")
    assert blends(found) == []
    assert found.subjects[0].notes == (
        "words were not blended: prompts are blended for pipelines that draw captions, a ddpm pipeline takes none; use a text-to-image directory",
    )
