"""Two versions of one model on the same edits: what the store knows of the first is enough to compare the second."""

from dataclasses import replace

import pytest

from audit_plugin.runner import audit_tree
from audit_plugin.wiring import open_store
from tests.end_to_end.site import make_site
from tests.test_wiring import EXACT, Binary, installed


class Later(Binary):
    """The next version: all log-odds are twice as large."""

    def __init__(self, **about):
        super().__init__()
        self.info = replace(self.info, version="2", config_hash="later", **about)

    def predict(self, images):
        powers = super().predict(images) ** 2
        return powers / powers.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Audits one version after the other on one bank and one store."""
    site = make_site(
        tmp_path_factory.mktemp("versions") / "site",
        12,
        diffex=EXACT,
        generator=None,
        concepts=None,
        template=None,
        placebo_words=None,
    )
    about = dict.fromkeys(("audit", "config", "config_hash", "dataset_digest", "rows_digest"), "x")
    installation = installed(site)
    model = installation.loaded.models[0]
    with open_store(installation.loaded) as store:

        def audit(classifier):
            question, explain = installation._question(model), installation._explain(model, store)
            return audit_tree(about, classifier, question, store, explain).diffex

        first = audit(Binary())
        yield first, audit


def test_the_second_version_is_compared_with_the_first_on_the_same_edits(audited):
    """Twice the log-odds: every effect doubles, and nothing was there to compare the first version with."""
    first, audit = audited
    second = audit(Later())
    assert first.drift is None
    assert second.drift.version == "1"
    nodes = [node for one in second.drift.classes for node in one.nodes if node.drift is not None]
    assert any(abs(node.old) > 0.05 for node in nodes)
    for node in nodes:
        assert node.new == pytest.approx(2 * node.old, rel=1e-3, abs=1e-6)
        assert node.drift.value == pytest.approx(node.new - node.old)
    effects = {(node.class_name, node.node): node for one in second.classes for node in one.nodes}
    whole = [node for node in nodes if node.images == effects[node.class_name, node.node].images]
    assert whole
    assert all(node.new == pytest.approx(effects[node.class_name, node.node].effect.value) for node in whole)


def test_edits_of_the_first_version_are_hits_for_the_next(audited):
    """Whatever the first made is there for the same questions; both name the same bank."""
    first, audit = audited
    again = audit(Later())
    assert first.bank_hits < again.bank_hits <= again.edits
    assert again.bank == first.bank != ""
    assert again.operators == ("deterministic/1",)


def test_classes_in_another_order_are_not_compared(audited):
    _, audit = audited
    assert audit(Later(labels=("positive", "negative"))).drift is None
