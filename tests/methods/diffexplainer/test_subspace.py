"""Searches between words on subjects whose taste is known in closed form; no generator is asked."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.methods.diffexplainer.asking import Answers, LimitReachedError
from audit_plugin.methods.diffexplainer.looks import looked
from audit_plugin.methods.diffexplainer.options import SubspaceSearch
from audit_plugin.methods.diffexplainer.run import Discoverer, Subject
from audit_plugin.methods.diffexplainer.subspace import NoSpanError, Searcher, spanned
from audit_plugin.methods.diffexplainer.word_bank import word_bank
from audit_plugin.methods.diffexplainer.word_search import Contexts, Kept
from tests.methods.diffexplainer.planted_words import CAPTIONS, SMALL, Planted, undecided, words

NAMES = ("ruler", "sand", "snow", "dusk")
BEST = {"ruler": 1.5, "sand": 1.0, "snow": -1.0, "dusk": 0.0}
"""Weights at which the oracle's score is highest."""
KEPT = Kept(words=words(*NAMES), score=(2.0, 1.0, 0.0, -1.0))
ONLY = Contexts(Sentences(("a photo",)), "audit")


@dataclass
class Oracle:
    """Opens spans, and answers in them: 3 at the best weights, less the farther off; a seed shifts all.  Words stand ``apart`` from the base."""

    labels: bool = False
    most: int | None = None
    apart: float = 2.0
    luck: float = 0.5
    opened: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    asked: list[tuple[bytes, int, int]] = field(default_factory=list)

    def __call__(self, base, prompts):
        self.opened.append((base, tuple(prompts)))
        return OracleSpan(self, [next((name for name in BEST if name in prompt), "") for prompt in prompts])


@dataclass
class OracleSpan:
    oracle: Oracle
    names: list[str]

    @property
    def concepts(self):
        return tuple(range(len(self.names)))

    @property
    def basis(self):
        return self.oracle.apart * np.eye(len(self.names))

    def ask(self, vectors, seeds, looks, what):
        self.oracle.asked += [(vector.tobytes(), *one) for vector, *one in zip(vectors, seeds, looks, strict=True)]
        if self.oracle.most is not None and len(set(self.oracle.asked)) > self.oracle.most:
            raise LimitReachedError("classifier_queries")
        best = np.array([BEST.get(name, 0.0) for name in self.names])
        luck = self.oracle.luck * np.array(
            [np.sin(one * 12.9898) + 0.2 * np.sin(look + one) for one, look in zip(seeds, looks, strict=True)]
        )
        score = (3 - ((vectors @ self.basis.T - best) ** 2).sum(1) + luck)[:, None]
        taken = score > 0
        shas = tuple(f"{vector.round(3).tolist()}|{one}|{look}" for vector, one, look in zip(vectors, seeds, looks, strict=True))
        return Answers(
            shas=shas, score=taken.astype(float) if self.oracle.labels else score, shown=1 / (1 + np.exp(-score)), taken=taken
        )


def search(oracle, *, graded=True, kept=KEPT, contexts=ONLY, column=0, **changes):
    options = SubspaceSearch(**{"budget": 500, "penalty": 0.0, **changes})
    return Searcher(span=oracle, search=options, name="audit", verify=40)("positive", column, contexts, kept, graded=graded)


def weights(found):
    """As they are told."""
    told, _, base = found.text.partition(", on top of ")
    assert base == '"a photo"'
    return {name: float(weight) for name, weight in (one.rsplit(" ", 1) for one in told.split(", "))}


@pytest.mark.parametrize(("method", "how", "budget"), [("auto", "CMA-ES", 500), ("nes", "NES", 1500)])
def test_the_best_weights_are_found_and_told(method, how, budget):
    """In words, heaviest first; on fresh seeds nearly all pictures are taken, of the base none."""
    oracle = Oracle()
    found = search(oracle, method=method, budget=budget)
    assert (found.how, found.note) == (how, "")
    told = weights(found)
    assert {name: told.get(name, 0.0) for name in BEST} == pytest.approx(BEST, abs=0.35)
    assert found.words[:2] == ("ruler", "sand")
    assert "snow" not in found.words
    assert found.answers.taken.mean() > 0.9
    assert found.seeds == tuple(seed_of("audit", "discovery verify", at) for at in range(40))
    assert len(oracle.asked) <= budget + 40


def test_labels_alone_lead_there_by_many_looks():
    """Each point is asked about by several seeds and looks, within the budget of labels."""
    oracle = Oracle(labels=True)
    found = search(oracle, graded=False, labels_budget=6000)
    assert found.how == "CMA-ES"
    assert found.answers.taken.mean() > 0.8
    assert {look for _, _, look in oracle.asked} == {0, 1, 2, 3}
    assert 3000 < len(oracle.asked) <= 6000 + 40


def test_a_search_is_the_same_again_and_shares_seeds_within_a_generation():
    first, again, other = Oracle(), Oracle(), Oracle()
    assert search(first).text == search(again).text
    assert first.asked == again.asked
    elsewhere = Contexts(ONLY.phrasing, "other")
    Searcher(span=other, search=SubspaceSearch(budget=500), name="other", verify=40)("positive", 0, elsewhere, KEPT, graded=True)
    assert {one for _, one, _ in other.asked}.isdisjoint({one for _, one, _ in first.asked})
    assert len({one for _, one, _ in first.asked[:16]}) == 1
    assert first.asked[16][1] != first.asked[0][1]


def test_only_the_best_words_that_fit_one_prompt_span_it():
    """The base says none of the best ones; a word that is said already, or has no place, is none of them."""
    said = Contexts(CAPTIONS, "audit")
    base, some, prompts = spanned(
        said, Kept(words=words("with a ruler", "sand", "water", "red", "square"), score=(5, 4, 3, 2, 1)), 3
    )
    assert some == ["with a ruler", "sand", "water"]
    assert all(not CAPTIONS.said(base, word) for word in ("with a ruler", "sand", "water", "red"))
    assert prompts[0] == f"{base} with a ruler"
    oracle = Oracle()
    search(oracle, dim=2)
    assert oracle.opened == [("a photo", ("a photo of ruler", "a photo of sand"))]


def test_why_nothing_is_blended_is_said():
    def closed(_base, _prompts):
        raise NoSpanError("this generator draws classes")

    assert search(closed).note == "words were not blended: this generator draws classes"
    found = search(Oracle(), kept=Kept(words=words("sand"), score=(1.0,)))
    assert (found.how, found.note) == ("", "words were not blended: fewer than 2 of the words that were kept fit one prompt")
    assert search(Oracle(), kept=Kept(words=(), score=())).note


def discovered(oracle, **changes):
    asked = Planted(weights=({"with a ruler": 1.0, "sand": 0.5},))
    searcher = Searcher(span=oracle, search=SubspaceSearch(budget=400), name="audit", verify=SMALL.verify)
    settings = {
        "ask": asked,
        "phrasing": CAPTIONS,
        "bank": word_bank(CAPTIONS),
        "name": "audit",
        "graded": True,
        "decide": undecided,
    }
    found = Discoverer(**{**settings, "options": SMALL, "search": searcher, **changes}).run([Subject(name="positive", column=0)])
    return asked, found


def test_a_blend_is_a_prompt_of_its_subject_and_its_words_are_verified_together():
    """Beside the compositions, none of which is verified twice."""
    asked, found = discovered(Oracle(luck=0.0))
    (one,) = found.subjects
    (blend,) = [prompt for prompt in one.prompts if prompt.how == "CMA-ES"]
    assert one.prompts[0] == blend
    assert blend.activation.value > 0.9
    assert len(blend.pictures) == SMALL.pictures
    assert "ruler" in blend.text
    assert [prompt.how for prompt in one.prompts[1:]] == ["composition"] * 3
    assert len(asked.during("prompts verified")) == 3 * SMALL.verify
    _, without = discovered(None, search=None)
    assert without.subjects[0].prompts == tuple(prompt for prompt in one.prompts if prompt in without.subjects[0].prompts)


def test_a_limit_within_the_search_leaves_the_subject_without_it():
    whole, oracle = discovered(None, search=None)[1], Oracle(most=100)
    _, found = discovered(oracle)
    assert found.stopped == "classifier_queries"
    assert found.subjects == whole.subjects
    assert len(oracle.asked) > 90


def test_why_there_is_no_blend_is_a_note_of_the_subject():
    _, found = discovered(Oracle(), search=lambda *_, **__: replace(search(Oracle(), kept=Kept(words=(), score=())), note="why"))
    assert (found.subjects[0].notes, found.stopped) == (("why",), "")


def test_looks_are_nearly_the_picture():
    image = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    assert looked(image, 0) is image
    moved = [looked(image, look) for look in (1, 2, 3)]
    assert all(one.shape == image.shape and one.dtype == image.dtype and 0 <= one.min() <= one.max() <= 1 for one in moved)
    assert not np.allclose(moved[0], moved[1])
    np.testing.assert_array_equal(looked(image, 2), moved[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "numbers are at least 1"),
        ({"population": 3}, "population at least 4"),
        ({"box": 0.0}, "box lies above 0"),
        ({"method": "cmaes", "dim": 33}, "cmaes searches at most 32 dimensions, got 33; use nes or auto"),
        ({"budget": 39}, "budget must be at least 40, two generations, got 39"),
        ({"labels_budget": 1000}, "labels_budget must be at least 1280"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SubspaceSearch(**changes)


def test_the_least_budgets_do(recwarn):
    """Of either method, with scores and with labels."""
    for method in ("cmaes", "nes"):
        assert search(Oracle(), method=method, budget=40).how
    assert search(Oracle(labels=True), graded=False, labels_budget=1280).how
    assert not recwarn
