import numpy as np
import pytest
from scipy.special import softmax

from audit_plugin.core.diffex_results import Chosen, EffectState, ScoreKind
from audit_plugin.methods.diffex import ClassPlan, RowTable, class_scores, node_effects
from tests.methods.diffex.world import LABELS, node, row, tree_of


def test_logits_give_the_log_odds_of_their_softmax():
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    found = class_scores(logits, ScoreKind.LOGITS)
    p = softmax(logits, axis=1)
    np.testing.assert_allclose(found.log_odds, np.log(p / (1 - p)), atol=1e-9)
    np.testing.assert_allclose(found.probability, p, atol=1e-12)


def test_sure_logits_keep_their_distance():
    """A probability would round to 1; the log-odds do not."""
    found = class_scores([[60.0, 0.0, 0.0]], ScoreKind.LOGITS)
    assert found.log_odds[0, 0] == pytest.approx(60 - np.log(2))
    assert found.log_odds[0, 1] == pytest.approx(-60)


def test_probabilities_are_clipped_and_counted():
    found = class_scores([[1.0, 0.0], [0.6, 0.4]], ScoreKind.PROBS)
    assert found.clipped.mean() == 0.5
    assert found.log_odds[0, 0] == pytest.approx(-found.log_odds[0, 1]) == pytest.approx(13.8155, abs=1e-3)


def test_labels_are_zero_or_one():
    found = class_scores([[0.0, 1.0], [1.0, 0.0]], ScoreKind.LABELS)
    assert found.log_odds.tolist() == [[0, 1], [1, 0]]
    assert found.decisions.ravel().tolist() == [1, 0]


def test_sigmoid_decides_every_class_for_itself():
    found = class_scores([[0.9, 0.8]], ScoreKind.SIGMOID)
    assert found.decisions.tolist() == [[1, 1]]
    assert found.log_odds[0] == pytest.approx([np.log(9), np.log(4)])


@pytest.mark.parametrize(
    ("scores", "kind", "says"),
    [
        ([[3.0, -2.0]], ScoreKind.PROBS, "set the kind of score to logits"),
        ([[np.nan, 0.5]], ScoreKind.PROBS, "finite"),
        ([[2.0]], ScoreKind.LOGITS, "sigmoid"),
    ],
)
def test_impossible_scores_are_refused(scores, kind, says):
    with pytest.raises(ValueError, match=says):
        class_scores(scores, kind)


def one_node(rows, kind):
    images = tuple(dict.fromkeys(row.cell.image for row in rows))
    plan = ClassPlan(class_name="cat", labels=LABELS[:2], images=images, chosen={"a": Chosen.SURVIVOR})
    return node_effects(RowTable(rows=tuple(rows), kind=kind), tree_of(node("a")), plan)[0]


def test_clipped_scores_are_said_to_be_saturated():
    rows = [row(f"i{at}", "a", (1.0, 0.0), (1.0, 0.0)) for at in range(40)]
    found = one_node(rows, ScoreKind.PROBS)
    assert "saturated" in found.flags
    assert found.state is EffectState.INCONCLUSIVE  # clipped scores are equal whatever was edited
    rows = [row(f"i{at}", "a", (0.9, 0.1), (0.8, 0.2)) for at in range(40)]
    assert "saturated" not in one_node(rows, ScoreKind.PROBS).flags


def test_labels_alone_give_differences_of_proportions():
    """30 of 40 answers change from the class to another: E = -0.75, and it is found."""
    rows = [row(f"i{at}", "a", (1, 0), (0, 1) if at < 30 else (1, 0)) for at in range(40)]
    found = one_node(rows, ScoreKind.LABELS)
    assert found.effect.value == pytest.approx(-0.75)
    assert found.state is EffectState.EFFECT
    assert "saturated" not in found.flags


def test_labels_that_never_change_do_not_prove_no_effect():
    """Not one change on 40 images still allows a share of several percent."""
    rows = [row(f"i{at}", "a", (1, 0), (1, 0)) for at in range(40)]
    found = one_node(rows, ScoreKind.LABELS)
    assert found.state is EffectState.INCONCLUSIVE
    assert found.effect.low < -0.05 < 0.05 < found.effect.high


def test_a_logit_model_and_its_probabilities_agree():
    logits = np.random.default_rng(1).normal(0, 1, (2, 40, 2))
    as_logits = [row(f"i{at}", "a", *logits[:, at]) for at in range(40)]
    as_probs = [row(f"i{at}", "a", *softmax(logits[:, at], axis=1)) for at in range(40)]
    one, other = one_node(as_logits, ScoreKind.LOGITS), one_node(as_probs, ScoreKind.PROBS)
    assert one.effect.value == pytest.approx(other.effect.value)
    assert one.probability.low == pytest.approx(other.probability.low)
