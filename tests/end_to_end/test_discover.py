"""What models respond to, from the command line: a real server, the renderer in place of the generator."""

import json
import shutil
from contextlib import nullcontext

import pytest
import yaml

from audit_plugin import discovery_loop
from audit_plugin.core.discovery_results import from_json
from audit_plugin.perception import probes
from audit_plugin.report.document import read_report
from engines.pipeline import load_pipeline
from tests.end_to_end.site import ASSETS, RenderedGenerator, Site
from tests.end_to_end.test_errors import refused
from tests.fixtures.alarms import alerts_of

MODEL = "shape_background_100"
OPTIONS = {
    "screen_seeds": 2, "shortlist": 8, "again_seeds": 4, "keep": 4, "pairs": 20, "beam": 2, "depth": 2, "compose_seeds": 4, "verify": 20,
}  # fmt: skip
BY_OCCLUSION = ("spurious", "occlusion")
WHY = {"owner": "tests", "reason": "words", "date": "2026-11-22"}
ASK = ("discover", "--model", MODEL, "--no-test")


@pytest.fixture
def copy(audited, tmp_path, monkeypatch):
    """The audited installation elsewhere, with captions for its generator; probes learn from little, they are tested by themselves."""
    monkeypatch.setattr(probes, "OPTIONS", probes.TrainingOptions(epochs=1))
    monkeypatch.setattr(discovery_loop, "PROBE_PAIRS", 30)
    monkeypatch.setattr(discovery_loop, "SUFFIX", "")  # the model's own output in place of hidden units
    site = Site(shutil.copytree(audited[0].folder, tmp_path / "copy"))
    captions = [
        f"a large red {shape} on {place}{ruler} in bright light"
        for shape in ("circle", "triangle")
        for place in ("grass", "water", "sand", "brick")
        for ruler in ("", " with a ruler")
    ]
    (site.folder / "said.txt").write_text("\n".join(captions))
    asked = {
        "mode": "scores",
        "classes": ["positive"],
        "objects": {"positive": "triangle"},
        "captions": "said.txt",
        "options": OPTIONS,
    }
    return site.change(generator={"path": str(ASSETS / "generator")}, discover=asked)


def discoveries(site):
    return [from_json(file.read_text()) for file in sorted((site.folder / "bank" / "discoveries").glob("*.json"))]


def nodes(site):
    file = site.folder / "bank" / "discovered.yaml"
    return {node["id"] for node in yaml.safe_load(file.read_text())["nodes"]} if file.exists() else set()


@pytest.mark.triton
def test_words_become_nodes_and_the_next_audit_tells_them(copy):
    """Its background is what this model knows, and what its outputs respond to as units.  Nobody can be asked here: the nodes are proposed, and taken when that is told.

    A further time draws nothing and proposes nothing, and a node that it proposed itself is no evidence of what the class is about.
    """
    answer = copy.change(discover={"units": {"probabilities": [1]}}).run(*ASK)
    assert answer.code == 0, answer.err
    assert "2 nodes are proposed and not in the tree: discovered/" in answer.err
    assert "water" in answer.out
    (found,) = discoveries(copy)
    positive, unit = found.subjects
    assert (unit.name, unit.kind) == ("probabilities[1]", "unit")
    assert {"water", "sand"} <= {word.word for word in unit.words if word.shift.low > 0}
    assert (found.model, positive.name, found.stopped, found.fit.fits) == (MODEL, "positive", "", True)
    acting = {word.word for word in positive.words if word.causes}
    assert {"water", "sand"} <= acting <= {"water", "sand", "triangle"}
    assert {(word.part, word.part_by) for word in positive.words if word.causes and word.word != "triangle"} == {BY_OCCLUSION}
    assert positive.object_absent.low == 0.0
    assert {(told.word, told.accepted) for told in found.proposed} == {("water", False), ("sand", False)}
    assert nodes(copy) == set()
    answer = copy.run(*ASK, "--accept")
    assert answer.code == 0, answer.err
    assert "`diffex: {}` in the configuration tests them on real images" in answer.err
    assert nodes(copy) >= {"sand", "water"}
    (taken,) = discoveries(copy)
    assert all(told.accepted for told in taken.proposed)
    scores = len(copy.scores())
    again = copy.run(*ASK, "--accept", "-o", "json")
    assert again.code == 0, again.err
    (told,) = json.loads(again.out)
    assert (told["network_rows"], len(copy.scores())) == (0, scores)
    assert [one["path"] for one in told["proposed"]] == [one.path for one in taken.proposed]
    known = {word["word"]: (word["part"], word["part_by"]) for word in told["subjects"][0]["words"] if word["known"]}
    assert known == {"water": BY_OCCLUSION, "sand": BY_OCCLUSION}
    copy.change(policy={"thresholds": [{"name": "cue", "metric": "cue", "threshold": 0.2, **WHY}]})
    assert copy.run("run", "--model", MODEL).code in {0, 1}
    (result,) = read_report(copy.folder / "report").results
    assert {word.word for subject, word in result.discovery.causes if subject.kind == "class"} == acting
    assert "discovered/water" in (copy.folder / "report" / "report.html").read_text()
    fired = alerts_of(copy.config, copy.folder / "service").firing
    cues = [alert for alert in fired if alert["alert"] == "AuditPluginDiscoveredCue"]
    assert {(alert["class"], alert["word"], alert["part"]) for alert in cues} == {
        ("positive", word, "spurious") for word in ("sand", "water")
    }


@pytest.mark.triton
def test_blends_of_words_are_searched_where_they_are_asked_for(copy, monkeypatch):
    """By the shipped generator; all that is drawn and asked stays in the bank for the next time."""
    pipeline = load_pipeline(ASSETS / "generator", backend="torch", threads=1, solver=4)
    monkeypatch.setattr(RenderedGenerator, "lend", lambda _: nullcontext(pipeline), raising=False)
    few = {"pairs": 10, "verify": 10, "keep": 3, "depth": 1, "compose_seeds": 2}
    copy.change(discover={"subspace": {"budget": 14, "population": 4, "pairs": 3}, "options": few})
    assert copy.run(*ASK).code == 0
    (found,) = discoveries(copy)
    (blend,) = [prompt for prompt in found.subjects[0].prompts if prompt.how == "CMA-ES"]
    assert "on top of" in blend.text
    assert blend.activation.value > found.subjects[0].base.value
    scores = len(copy.scores())
    monkeypatch.delattr(RenderedGenerator, "lend")
    answer = copy.run(*ASK, "-o", "json")
    assert answer.code == 0, answer.err
    (again,) = json.loads(answer.out)
    assert (again["network_rows"], len(copy.scores())) == (0, scores)
    assert [one["text"] for one in again["subjects"][0]["prompts"]] == [one.text for one in found.subjects[0].prompts]


@pytest.mark.triton
def test_a_limit_leaves_what_is_finished_and_the_next_one_goes_on(copy):
    """Some queries at a time come to the same end; on the way there are whole subjects alone."""
    copy.change(discover={"classes": ["positive", "negative"], "objects": None, "limits": {"classifier_queries": 20}})
    answer = copy.run(*ASK)
    assert answer.code == 0, answer.err
    (found,) = discoveries(copy)
    assert (found.stopped, found.subjects, found.queries) == ("classifier_queries", (), 20)
    assert "does not draw" not in found.fit.said
    copy.change(discover={"limits": {"classifier_queries": 150}})
    rounds = []
    while found.stopped and len(rounds) < 8:
        assert copy.run(*ASK).code == 0
        (found,) = discoveries(copy)
        rounds.append([one.name for one in found.subjects])
        assert 0 < found.queries <= 150
    assert rounds[-1] == ["positive", "negative"]
    assert len(rounds) > 1


@pytest.mark.triton
def test_outputs_and_units_that_there_are_not_are_named(copy):
    copy.change(discover={"units": {"view": [0]}})
    refused(copy.run(*ASK), 2, f"discover.units: {MODEL} has no output 'view'; it has probabilities")
    copy.change(discover={"units": {"view": None, "probabilities": [0, 7]}})
    refused(copy.run(*ASK), 2, "discover.units: probabilities has units 0 to 1, not 7")
    copy.change(discover={"units": {"probabilities": [-1]}})
    refused(copy.run(*ASK), 2, "discover.units: probabilities has units 0 to 1, not -1")


@pytest.mark.triton
def test_hidden_units_of_another_classifier_are_refused(copy, monkeypatch):
    """As an audit model that was left behind by an older version is."""
    monkeypatch.setattr(discovery_loop, "SUFFIX", "_gone")
    copy.change(discover={"units": {"probabilities": [0]}})
    refused(copy.run(*ASK), 2, f"the server has no '{MODEL}_gone'", "engines export-hidden")

    class Other(discovery_loop.ServedRows):
        def __init__(self, wire, _model):
            super().__init__(wire, "shape_clean")

    monkeypatch.setattr(discovery_loop, "ServedRows", Other)
    refused(copy.run(*ASK), 2, f"{MODEL}_gone is not of this version of {MODEL}", "export it again")


@pytest.mark.triton
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["positiv"]}, ["discover.classes", "no class 'positiv'; it has negative, positive"]),
        ({"words": "away.txt"}, ["discover.words", "away.txt", "give a text file with one entry a line"]),
        ({"captions": "away.txt"}, ["discover.captions", "away.txt", "give a text file with one entry a line"]),
        ({"captions": "scenes/0.png"}, ["discover.captions", "0.png", "give a text file with one entry a line"]),
        ({"tree": "said.txt"}, ["said.txt"]),
    ],
)
def test_what_is_configured_wrongly_is_one_line(copy, change, words):
    """Before anything is drawn."""
    refused(copy.change(discover=change).run(*ASK), 2, *words)
    assert discoveries(copy) == []


@pytest.mark.triton
def test_the_price_is_told_and_nothing_is_made(copy):
    (copy.folder / "own.txt").write_text("snow\nwater\n")
    prices = []
    for words in ("", "own.txt"):
        answer = copy.change(discover={"words": words}).run(*ASK, "--dry-run", "-o", "json")
        assert answer.code == 0, answer.err
        prices.append(json.loads(answer.out))
    assert [price["words"] for price in prices] == [7, 8]
    assert prices[0]["pictures_at_most"] < prices[1]["pictures_at_most"]
    blended = json.loads(
        copy.change(discover={"subspace": {"budget": 200, "labels_budget": 1300}}).run(*ASK, "--dry-run", "-o", "json").out
    )
    for key in ("pictures_at_most", "classifier_queries_at_most"):
        assert blended[key] - prices[1][key] == 200 + 2 * OPTIONS["verify"]
    assert blended["more_if_labels_alone"] == 1100
    assert discoveries(copy) == []
