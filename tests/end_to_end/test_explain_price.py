"""What explaining would cost, said before anything is asked or loaded."""

import json

EXPLAIN = {"images": 4, "free": 2, "kept": 10, "signal": 0.6, "particles": 4, "steps": 5, "paths": 1}


def test_a_dry_run_names_what_explain_would_ask(site):
    """Offline, for both models; more runs cost more, `run --dry-run` counts it too."""
    site.change(explain=EXPLAIN)
    once = json.loads(site.run("explain", "--dry-run", "--output", "json").out)
    twice = json.loads(site.change(explain={"runs": 2}).run("explain", "--dry-run", "--output", "json").out)
    assert once["counterfactuals"] == 2 * 4
    assert twice["counterfactuals"] == 2 * once["counterfactuals"]
    assert twice["counterfactual_network_rows_at_most"] == 2 * once["counterfactual_network_rows_at_most"] > 0
    assert once["counterfactual_queries_at_most"] < twice["counterfactual_queries_at_most"]
    one = site.run("explain", "--dry-run", "--model", "shape_clean", "--output", "json")
    assert json.loads(one.out)["counterfactuals"] == 2 * 4


def test_without_explain_there_is_nothing_to_price(site):
    answer = site.run("explain", "--dry-run")
    assert (answer.code, "explain: this key is required" in answer.err) == (2, True)


def test_an_audits_dry_run_counts_its_counterfactuals(site):
    plain = json.loads(site.run("run", "--dry-run", "--output", "json").out)
    assert "counterfactuals" not in plain
    told = json.loads(site.change(explain=EXPLAIN).run("run", "--dry-run", "--output", "json").out)
    assert told["counterfactuals"] == 8
    assert told["classifier_queries_at_most"] == plain["classifier_queries_at_most"] + told["counterfactual_queries_at_most"]


def test_words_are_learned_before_images_are_edited(site):
    """By `time` with its references, and by a start that is to be found, more is asked."""
    fixed = json.loads(site.change(explain=EXPLAIN).run("explain", "--dry-run", "--output", "json").out)
    found = json.loads(site.change(explain={"signal": None}).run("explain", "--dry-run", "--output", "json").out)
    assert found["counterfactual_queries_at_most"] > fixed["counterfactual_queries_at_most"]
    few = json.loads(site.change(explain={"method": "time", "references": 10}).run("explain", "--dry-run", "--output", "json").out)
    many = json.loads(site.change(explain={"references": 60}).run("explain", "--dry-run", "--output", "json").out)
    assert many["counterfactual_queries_at_most"] == few["counterfactual_queries_at_most"] + 2 * 50
