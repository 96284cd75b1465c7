"""Pictures of a complete table in place of drawn ones."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from audit_plugin.bank.build import draw
from audit_plugin.bank.join import _Joint
from audit_plugin.bank.pictured_generator import PicturedGenerator, PicturesOptions, pictured_generator, table_detector
from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.config import load
from audit_plugin.core.errors import ConfigError, DetectorError, GeneratorError
from audit_plugin.core.seeds import seed
from audit_plugin.core.values import Arm, Concept, Row
from audit_plugin.sources.images import encode_png, is_marked_synthetic, read_images
from audit_plugin.wiring import Installation

TONES, KINDS = ("light", "dark"), ("mug", "bowl")
CONCEPTS = ConceptSet(
    concepts=(
        Concept(name="tone", levels=TONES, phrases=TONES),
        Concept(name="kind", levels=KINDS, phrases=KINDS),
    ),
    groups=(("tone", "kind"),),
)
LONG = ("a1", "b2", "c3", "d4", "e5", "f6")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    """Two makers' pictures of every combination, each of its own colour."""
    folder, made = tmp_path_factory.mktemp("pictures"), []
    for maker in ("north", "south"):
        for at, (tone, kind) in enumerate((t, k) for t in range(2) for k in range(2)):
            name = f"{maker}-{TONES[tone]}-{KINDS[kind]}"
            pixels = np.full((8, 8, 3), (40 * at, 200 if maker == "north" else 30, 90), np.uint8)
            pixels[:4] = 255 - 20 * at
            (folder / f"{name}.png").write_bytes(encode_png(pixels, synthetic=False))
            made.append(
                Row(id=name, values=(tone, kind), image=str(folder / f"{name}.png"), unit=maker, labels={"kind": KINDS[kind]})
            )
    return made


def generator(rows, audited=None, **options) -> PicturedGenerator:
    asked = PicturesOptions(size=8, **options)
    return pictured_generator(rows, CONCEPTS, audited or rows, audit="a", options=asked, replicates=1, identity="table")


def planned(made: PicturedGenerator, audited, concepts=CONCEPTS):
    return plan(audited, concepts, generator=made.fingerprint, audit="a", options=PlanOptions(), drawable=made.shows)


def picture_of(made: PicturedGenerator, probe) -> str:
    """Name of the file that answers a probe."""
    return made._pick(probe.recipe.caption, probe.recipe.seed).id


def test_every_probe_is_a_picture_of_its_values(rows):
    """A baseline is the row's own picture, a placebo and a replicate another one of the same values; a flip shows the asked values."""
    made = generator(rows)
    for probe in planned(made, rows).probes:
        name = picture_of(made, probe)
        tone, kind = probe.values
        assert name.split("-")[1:] == [TONES[tone], KINDS[kind]]
        assert (name == probe.row) == (
            probe.arm is Arm.BASELINE or (name == probe.row and probe.arm not in {Arm.PLACEBO, Arm.REPLICATE})
        )
    assert made.evaluations_per_image == 0


def test_pictures_come_from_the_rows_own_unit_where_that_is_asked(rows):
    """The same product in another tone, not another maker's."""
    made = generator(rows, same_unit=True)
    probes = planned(made, rows).probes
    assert all(picture_of(made, probe).split("-")[0] == probe.row.split("-")[0] for probe in probes)
    assert {picture_of(made, probe) == probe.row for probe in probes if probe.arm is Arm.PLACEBO} == {True}  # exact pairs
    loose = generator(rows)
    assert any(picture_of(loose, probe).split("-")[0] != probe.row.split("-")[0] for probe in planned(loose, rows).probes)


def test_of_several_pictures_that_show_a_combination_each_answers_for_some_rows(rows):
    """By seed, so that no one picture stands for its combination."""
    made, asked = generator(rows), dict[str, set[str]]()
    more = [replace(row, id=f"{row.id}-{at}") for row in rows for at in range(6)]
    made = replace(made, asking={seed("a", row.id): row for row in more})
    for number in made.asking:
        asked.setdefault("dark, bowl", set()).add(made._pick("dark, bowl", number).id)
    assert asked["dark, bowl"] == {"north-dark-bowl", "south-dark-bowl"}


def test_pictures_are_the_files_own_and_not_marked_as_generated(rows):
    made = generator(rows)
    probes = planned(made, rows).probes[:3]
    pictures = made.generate([probe.recipe.caption for probe in probes], [probe.recipe.seed for probe in probes])
    names = {row.id: row.image or "" for row in rows}
    np.testing.assert_array_equal(pictures, read_images([names[picture_of(made, probe)] for probe in probes], 8))
    drawn = draw(made, lambda images: [""] * len(images), [probe.recipe for probe in probes])
    assert not any(is_marked_synthetic(one.png) for one in drawn)


def test_a_combination_that_no_picture_shows_is_named_before_anything_is_stored(rows):
    some = [row for row in rows if row.values != (1, 1)]
    made = generator(some)
    with pytest.raises(
        GeneratorError, match=r"tone = dark, kind = bowl \('dark, bowl'\) is shown by no picture .* row 'north-light-bowl' asks"
    ):
        made.check(planned(made, some[1:]))
    with pytest.raises(GeneratorError, match="no picture of the table shows 'dark, bowl'"):
        made.generate(["dark, bowl"], [1])


def test_sampled_levels_and_groups_do_without_what_no_picture_shows():
    """Concepts of many levels are flipped to some of them: to those that can be had with the row's other values."""
    long = tuple(Concept(name=name, levels=LONG, phrases=tuple(f"{name} {level}" for level in LONG)) for name in ("x", "y"))
    many = ConceptSet(concepts=(*long, Concept(name="z", levels=("no", "yes"), phrases=("plain", "striped"))), groups=(("x", "z"),))
    unequal = [Row(id=f"{i}{j}{k}", values=(i, j, k), image="") for i in range(6) for j in range(6) for k in range(2) if i != j]
    made = pictured_generator(unequal, many, unequal, audit="a", options=PicturesOptions(same_unit=True), replicates=1, identity="")
    whole = planned(made, unequal, many)
    made.check(whole)
    assert all(probe.values[0] != probe.values[1] for probe in whole.probes)
    assert {probe.arm for probe in whole.probes} >= {Arm.FLIP, Arm.GROUP}
    grouped = {probe.row for probe in whole.probes if probe.arm is Arm.GROUP}
    without = [row.id not in grouped for row in unequal]
    assert any(without)
    assert _Joint(plan=whole, drawn={}).changed("x+z")[without].all()  # not counted as if their donor had changed nothing
    assert any(a.values[0] == a.values[1] for a in plan(unequal, many, generator="g", audit="a").probes)


def test_what_another_picture_does_must_be_known(rows):
    """A row without a second picture of its values has no placebo; where most have none, the audit says so before it is made."""
    again = replace(rows[0], id="listed again")
    most = [row for row in rows if row.id != "south-light-mug"]
    made = generator([*most, again], most)
    whole = planned(made, most)
    made.check(whole)
    placebos = {probe.row: picture_of(made, probe) for probe in whole.probes if probe.arm is Arm.PLACEBO}
    assert placebos.keys() == {row.id for row in most} - {"north-light-mug"}
    assert all(shown not in {name, "listed again"} for name, shown in placebos.items())
    alone = rows[:4]
    with pytest.raises(GeneratorError, match=r"4 of 4 rows are the only picture of their combination, .*same_unit: true"):
        generator(alone).check(planned(generator(alone), alone))
    few = plan(rows, CONCEPTS, generator="g", audit="a", options=PlanOptions(placebo_rows=0), drawable=generator(rows).shows)
    with pytest.raises(GeneratorError, match=r"no row has a placebo, .*placebo_rows"):
        generator(rows).check(few)


def test_the_fingerprint_follows_the_table_and_the_options(rows):
    made = [generator(rows), generator(rows, same_unit=True)]
    other = pictured_generator(rows, CONCEPTS, rows, audit="a", options=PicturesOptions(size=8), replicates=1, identity="other")
    assert len({one.fingerprint for one in (*made, other)}) == 3
    assert seed("a", rows[0].id) in made[0].asking


def test_the_table_tells_what_its_pictures_show(rows):
    """Equal pictures that are listed with two values share them; another picture is refused."""
    twin = replace(rows[0], id="twin", values=(1, 0))
    detector = table_detector([*rows, twin], CONCEPTS, size=8)
    read = detector.read(read_images([rows[0].image or "", rows[3].image or ""], 8))
    assert read["tone"].tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert read["kind"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(DetectorError, match="this one is none"):
        detector.read(np.zeros((1, 3, 8, 8), np.float32))


def document(folder: Path, rows) -> dict:
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "tone", "kind", "maker"])
        writer.writerows([Path(row.image or "").name, TONES[row.values[0]], KINDS[row.values[1]], row.unit] for row in rows)
    return {
        "version": 1,
        "audit": "a",
        "source": {
            "images": str(Path(rows[0].image or "").parent), "table": "table.csv", "label_columns": ["kind"], "unit_column": "maker",
            "where": {"maker": "north"},
        },
        "concepts": [{"name": "tone", "levels": list(TONES), "role": "protected"}, {"name": "kind", "levels": list(KINDS), "role": "core"}],
        "generator": {"pictures": {"size": 8, "where": {"maker": ["north", "south"]}}},
        "detector": {"table": True},
        "models": [{"model": "m", "label": "kind"}],
    }  # fmt: skip


def test_a_configuration_builds_its_bank_from_pictures(tmp_path, rows):
    """And a second look finds it complete; pictures outside the audited rows may answer."""
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(document(tmp_path, rows)))
    evidence = Installation(load(path, {}), lambda *_: None).evidence()
    assert evidence.built.evaluations == 0
    assert evidence.built.rejected == 0
    assert evidence.backend == "pictures"
    assert evidence.reference
    again = Installation(load(path, {}), lambda *_: None)
    second = again.evidence()
    assert (second.built.drawn, second.backend) == (0, "pictures")
    assert again.price().draw == 0


def test_audited_rows_must_be_among_what_is_looked_up(tmp_path, rows):
    path, written = tmp_path / "audit.yaml", document(tmp_path, rows)
    written["generator"]["pictures"]["where"] = {"maker": "south"}
    path.write_text(yaml.safe_dump(written))
    with pytest.raises(ConfigError, match=r"where leaves out \d+ of the audited rows, e.g. .*: widen it"):
        _ = Installation(load(path, {}), lambda *_: None).pictured


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generator": {}}, "name a diffusers directory as `generator.path`, or pictures"),
        ({"generator": {"path": "p", "pictures": {}}}, "one of the two"),
        ({"diffex": {}}, r"diffex: `generator.pictures` looks pictures up .* or set `diffex.operator: none`"),
        ({"explain": {}}, r"explain: `generator.pictures` looks pictures up"),
        ({"diffex": {"operator": "none"}}, "detector.table: edited pictures are in no table"),
        ({"generator": {"path": "p"}}, "detector.table: only pictures of the table"),
        ({"detector": {"table": True, "train": {"where": {"maker": "west"}}}}, "give one of the two"),
        (
            {
                "source": {"images": "i", "table": "t.csv", "label_columns": ["kind"]},
                "generator": {"pictures": {"same_unit": True}},
            },
            "as `source.unit_column`",
        ),
    ],
)
def test_what_pictures_cannot_do_is_said_by_the_configuration(tmp_path, rows, change, said):
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(document(tmp_path, rows) | change))
    with pytest.raises(ConfigError, match=said):
        load(path, {})
