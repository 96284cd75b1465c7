import pytest

from audit_plugin.bank.ahead import scoring_ahead
from audit_plugin.bank.build import build
from audit_plugin.bank.plan import plan
from audit_plugin.bank.score import score
from tests.bank.world import CONCEPTS, SMALL, FakeClassifier, FakeGenerator, FakeScores, good, new_bank, rows, silent


@pytest.fixture
def bank(tmp_path):
    return new_bank(tmp_path / "bank")


def drawn(bank, classifier, scores, quality=good):
    """Twelve rows, drawn in batches of five by two threads; says what was scored meanwhile."""
    wanted = plan(rows(12), CONCEPTS, generator="fake-1", audit="demo", options=SMALL)
    with scoring_ahead(bank, classifier, scores) as ahead:
        build(bank, wanted, FakeGenerator(), quality, progress=silent, batch=5, workers=2, stored=ahead)
    return ahead


def test_every_picture_is_asked_about_once(bank):
    """FakeScores notices when anything is scored twice; nothing is left for later."""
    classifier, scores = FakeClassifier(), FakeScores()
    ahead = drawn(bank, classifier, scores)
    assert ahead.scored == classifier.seen == len(bank.usable())
    assert score(bank, classifier, scores, progress=silent).scored == 0


def test_a_server_that_fails_costs_no_picture(bank):
    """Drawing goes on; the rest is asked when it is back."""
    scores = FakeScores()
    ahead = drawn(bank, FakeClassifier(lives=2), scores)
    assert "killed" in str(ahead.failure)
    assert 0 < ahead.scored < len(bank.usable())
    assert score(bank, FakeClassifier(), scores, progress=silent).scored == len(bank.usable()) - ahead.scored


def test_refused_pictures_are_not_sent(bank):
    classifier = FakeClassifier()
    ahead = drawn(bank, classifier, FakeScores(), quality=lambda images: ["dark"] * len(images))
    assert (ahead.scored, classifier.seen) == (0, 0)


def test_an_interrupted_build_sends_nothing_more(bank):
    """Ctrl-C ends drawing and asking."""
    classifier = FakeClassifier()

    def interrupted(done, *_):
        if done:
            raise KeyboardInterrupt

    wanted = plan(rows(12), CONCEPTS, generator="fake-1", audit="demo", options=SMALL)
    with pytest.raises(KeyboardInterrupt), scoring_ahead(bank, classifier, FakeScores()) as ahead:
        build(bank, wanted, FakeGenerator(), good, progress=interrupted, batch=5, stored=ahead)
    assert classifier.seen <= 5
