import pytest

from audit_plugin.concepts.io import concepts_from_csv, concepts_from_dict, concepts_from_yaml, read_concepts
from audit_plugin.core.errors import CaptionError, ConfigError
from audit_plugin.core.values import Role

YAML = """
template: "a mole{ruler}, {age}"
placebo_words: [indeed]
concepts:
  - {name: ruler, column: has_ruler, role: artefact, levels: {"no": "", "yes": ", with a ruler"}, cells: {0: "no", 1: "yes"}}
  - {name: age, kind: numeric, role: protected, levels: [young, old]}
"""
CSV = """name,level,phrase,role,column,kind
ruler,no,,artefact,has_ruler,
ruler,yes,a ruler,artefact,has_ruler,
age,young,young,protected,,numeric
age,old,old,protected,,numeric
"""


def test_yaml_says_everything():
    """Phrases, columns, cells, roles and kinds are read as written."""
    document = concepts_from_yaml(YAML)
    ruler, age = document.columns
    assert ruler.concept.phrases == ("", ", with a ruler")
    assert (ruler.column, ruler.cells, ruler.concept.role) == ("has_ruler", {"0": "no", "1": "yes"}, Role.ARTEFACT)
    assert (age.column, age.numeric, age.concept.levels) == ("age", True, ("young", "old"))
    assert document.concept_set.placebo_words == ("indeed",)


def test_csv_and_dict_agree():
    """The table is another spelling of the same concepts."""
    levels = {"no": "", "yes": "a ruler"}
    ruler = {"name": "ruler", "column": "has_ruler", "role": "artefact", "levels": levels}
    age = {"name": "age", "kind": "numeric", "role": "protected", "levels": ["young", "old"]}
    assert concepts_from_csv(CSV) == concepts_from_dict({"concepts": [ruler, age]})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "a", "level": ["x", "y"]}, "unknown key 'level'; did you mean 'levels'"),
        ({"name": "a", "levels": ["x", "y"], "role": "protectd"}, "did you mean 'protected'"),
        ({"name": "a", "levels": ["x", "y"], "kind": "number"}, "did you mean 'numeric'"),
        ({"name": "a", "levels": {True: "x", False: "y"}}, "put yes, no"),
        ({"name": "a", "levels": ["x"]}, "at least two"),
        ({"name": "a", "levels": ["x", "x"]}, "lists a level twice"),
        ({"name": "a", "levels": "xy"}, "must be a list"),
        ({"name": "a", "levels": list("abcdef"), "kind": "numeric"}, "at most 5"),
        ({"name": "a", "levels": ["x", "y"], "cells": {"1": "z"}}, "level in 'cells'"),
        ({"levels": ["x", "y"]}, "no 'name'"),
        ("a", "must be a mapping"),
    ],
)
def test_each_mistake_has_its_message(item, message):
    """A broken concept says what is wrong with it."""
    with pytest.raises(ConfigError, match=message):
        concepts_from_dict({"concepts": [item]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,phrase\na,b\n", "no column 'level'"),
        ("name,level,role\na,x,core\na,y,context\n", "line 3"),
        ("name,level\na,x\na,x\n", "line 3"),
    ],
)
def test_each_mistake_in_a_table_has_its_message(text, message):
    """A broken table names the line or the column."""
    with pytest.raises(ConfigError, match=message):
        concepts_from_csv(text)


def test_errors_in_a_file_name_the_file(tmp_path):
    """The message starts with the path, whatever is wrong inside."""
    path = tmp_path / "concepts.yaml"
    path.write_text(YAML.replace("{age}", "{agee}"))
    with pytest.raises(CaptionError, match=r"concepts\.yaml: .*did you mean 'age'"):
        read_concepts(path)
    path.write_text("concepts: [")
    with pytest.raises(ConfigError, match=r"concepts\.yaml: not valid YAML"):
        read_concepts(path)


def test_a_csv_file_is_read_by_its_ending(tmp_path):
    """A spreadsheet's byte order mark does no harm."""
    path = tmp_path / "concepts.csv"
    path.write_text(CSV, encoding="utf-8-sig")
    assert read_concepts(path) == concepts_from_csv(CSV)


def test_a_list_without_concepts_is_refused():
    with pytest.raises(ConfigError, match="the concept set is empty; list at least one concept"):
        concepts_from_dict({"concepts": []})
