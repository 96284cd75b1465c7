"""The table of atomic rows: what a result says can be computed from it again, by numpy alone."""

import csv
import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.special import softmax

from audit_plugin.core.diffex_results import DiffexResult, ScoreKind
from audit_plugin.core.edits import Split
from audit_plugin.methods.diffex import (
    CombineOptions,
    DiffexOptions,
    EstimateOptions,
    RaceOptions,
    row_file,
    row_file_name,
    run_diffex,
)
from audit_plugin.methods.diffex.row_file import COLUMNS
from tests.methods.diffex.world import LABELS, World, images, node, normal, tree_of

TREE = tree_of(*(node(f"n{at}", group=f"n{at}") for at in range(6)))
POOL = [*images(40), *images(120, "dog")]
OF = {image: image.split("-")[0] for image in POOL}
OPTIONS = DiffexOptions(
    race=RaceOptions(keep=4),
    combine=CombineOptions(size=2, terms=2),
    estimate=EstimateOptions(draws=50, flips=99),
    images_per_class=36,
    seeds=2,
    dose_nodes=1,
    hit_nodes=1,
)
ANSWERS = {
    ScoreKind.LOGITS: tuple,
    ScoreKind.PROBS: softmax,
    ScoreKind.SIGMOID: lambda logits: 1 / (1 + np.exp(-logits)),
    ScoreKind.LABELS: lambda logits: np.eye(len(logits))[logits.argmax()],
}


class Leaky(World):
    """Some edits fail, some placebos too, and the class is not always kept."""

    def _row(self, cell):
        row = super()._row(cell)
        if row.valid and normal("fails", cell.image, cell.nodes, cell.seed) > 1:
            return replace(row, valid=False, reasons=("V1", "V2"))
        return replace(row, class_kept=normal("kept", cell.image, cell.nodes) < 1)


def written(kind, classes=("cat", "dog"), **changes):
    """The table of a run as lines of text, and what the run says in its report."""
    rows, options = [], replace(OPTIONS, score=kind, **changes)
    arms = Leaky(
        effects={"n0": 1.5, "n1": -0.9, "n2": 0.4},
        artefact=-0.3,
        sd=0.5,
        seed_sd=0.6,
        present=lambda image, path: None if normal(image, path) > 1.5 else normal(image, path) > 0.5,
        answer=ANSWERS[kind],
    )
    result = run_diffex(arms, TREE, POOL, classes, labels=LABELS, classes_of=OF, options=options, sink=rows.extend)
    told = json.loads(TypeAdapter(DiffexResult).dump_json(result))
    about = {"model": "m", "version": "1", "labels": LABELS, "classes_of": OF, "options": options}
    packed = row_file(rows, result, **about)
    assert packed == row_file(rows, result, **about)
    lines = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    return lines, told, rows


def columns(lines, names):
    return {name: np.array([float(line[name] or "nan") for line in lines]) for name in names}


def per_image(lines, values):
    """Image -> mean over its lines."""
    names = np.array([line["image"] for line in lines])
    return {str(name): float(values[names == name].mean()) for name in np.unique(names)}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [*((kind, {}) for kind in ScoreKind), (ScoreKind.LOGITS, {"all_images": True, "seeds": 1, "seed_share": 0.4})],
)
def test_the_report_follows_from_the_rows(kind, changes):
    """Effect, images, flips and their excess over placebos, and valid edits of every node and class, to 1e-9.

    Also where classes share their images, and one of them asks for more seeds than the other did.
    """
    lines, told, _ = written(kind, **changes)
    checked = 0
    for about in told["classes"]:
        counted = [
            one for one in lines if one["class"] == about["class_name"] and one["counted"] == "1" and float(one["strength"]) == 1
        ]
        placebos = [one for one in counted if one["placebo_edit"] == "1" and one["valid"] == "1" and one["log_odds_after"]]
        numbers = columns(placebos, ("log_odds_before", "log_odds_after", "flip"))
        shifts = per_image(placebos, numbers["log_odds_after"] - numbers["log_odds_before"])
        placebo_flips = per_image(placebos, numbers["flip"])
        for effect in about["nodes"]:
            edits = [one for one in counted if one["placebo_edit"] == "0" and one["nodes"] == effect["node"]]
            made = [one for one in edits if "ambiguous" not in one["reasons"].split("|")]
            valid = np.array([one["valid"] == "1" for one in made])
            assert effect["quality"]["attempts"] == len(made)
            assert effect["quality"]["valid"] == pytest.approx(valid.mean(), abs=1e-9)
            used = [one for one in made if one["valid"] == "1" and one["image"] in shifts]
            found = columns(used, ("signs", "log_odds_before", "log_odds_after", "flip", "effect"))
            taken = np.array([shifts[one["image"]] for one in used])
            d = found["signs"] * (found["log_odds_after"] - found["log_odds_before"] - taken)
            np.testing.assert_allclose(d, found["effect"], rtol=0, atol=1e-9)
            by_image, flips = per_image(used, d), per_image(used, found["flip"])
            assert effect["images"] == len(by_image)
            assert effect["effect"]["value"] == pytest.approx(np.mean(list(by_image.values())), abs=1e-9)
            assert effect["flips"] == pytest.approx(np.mean(list(flips.values())), abs=1e-9)
            excess = np.mean([flips[image] - placebo_flips[image] for image in flips])
            assert effect["flip_rate"]["value"] == pytest.approx(excess, abs=1e-9)
            checked += 1
    assert checked >= 8


def test_every_row_is_there_as_it_was():
    """Of a class's own images, whatever became of the edit; search images are never counted, and images beyond the pool are nobody's."""
    lines, told, rows = written(ScoreKind.PROBS, ["cat"])
    assert tuple(lines[0]) == COLUMNS
    own = [row for row in rows if OF[row.cell.image] == "cat"]
    mine = [one for one in lines if one["image_class"] == "cat"]
    assert [(one["image"], one["nodes"], one["seed"]) for one in mine] == [
        (row.cell.image, "|".join(row.cell.nodes), str(row.cell.seed)) for row in own
    ]
    for one, row in zip(mine, own, strict=True):
        assert (one["valid"], one["reasons"], one["after_sha256"]) == (str(int(row.valid)), "|".join(row.reasons), row.after_sha256)
        assert (one["split"], one["counted"]) == (row.split.value, str(int(row.split is Split.ESTIMATE)))
        assert [float(one[name]) for name in ("score_before", "score_after") if row.scored] == (
            [row.before[0], row.after[0]] if row.scored else []
        )
    assert len({row.cell.image for row in own}) <= 36
    hits = {one["node"] for one in told["classes"][0]["hits"]}
    others = [one for one in lines if one["image_class"] == "dog"]
    assert others
    assert hits == {one["nodes"] for one in others} == {"n0"}
    assert {one["counted"] for one in others} == {"0"}


def test_names_of_files_are_harmless():
    assert row_file_name("a/b c", "1.2") == "diffex-rows-a_b_c-1.2.csv.gz"
    assert row_file_name("a", "1", "smiling?") == "diffex-rows-a-1-smiling_.csv.gz"
