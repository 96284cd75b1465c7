"""``audit-plugin concepts``: what it writes and prints, and how it ends."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from audit_plugin.cli.concepts import concepts_app
from audit_plugin.concepts.default_tree import default_tree
from audit_plugin.concepts.tree_io import read_tree
from tests.concepts.test_assistant import GOOD, Server, serving

DIFFEX = '{"domain": "faces", "categories": {"accessories": {"hat": ["beanie"]}}}'


@pytest.fixture
def concepts():
    def invoke(*arguments):
        return CliRunner().invoke(concepts_app, [str(argument) for argument in arguments])

    return invoke


@pytest.mark.parametrize("name", ["init", "show", "check", "export", "propose"])
def test_every_command_explains_itself(concepts, name):
    answer = concepts(name, "--help")
    assert answer.exit_code == 0
    assert "." in answer.stdout.split("Options")[0].split("Usage")[1]


def test_init_writes_the_default_tree(concepts, tmp_path):
    """In the form that the file's name says; on stdout it is YAML."""
    for name in ("tree.yaml", "tree.json"):
        answer = concepts("init", "--domain", "faces", "--class", "cat", "--class", "dog", "--people", "--out", tmp_path / name)
        assert (answer.exit_code, answer.stdout) == (0, "")
        assert read_tree(tmp_path / name) == default_tree("faces", ["cat", "dog"], people=True)
    assert json.loads((tmp_path / "tree.json").read_text())["schema"] == "concept-tree/1"
    printed = concepts("init", "--domain", "faces")
    assert yaml.safe_load(printed.stdout)["domain"] == "faces"


def test_init_begins_with_a_file_in_one_command(concepts, tmp_path):
    """A four-column table or a DiffEx file, with the default tree below it."""
    table = tmp_path / "faces.csv"
    table.write_text("parent,name,kind,prompt_add\n,beard,protected,a beard\n")
    (tmp_path / "d.json").write_text(DIFFEX)
    for source, path in ((table, "beard"), (tmp_path / "d.json", "accessories/hat/beanie")):
        assert concepts("init", "--from", source, "--out", tmp_path / "out.yaml", "--force").exit_code == 0
        tree = read_tree(tmp_path / "out.yaml")
        assert tree.domain == "faces"
        assert tree.node(path).source == "import"
        assert tree.node("default/quality/jpeg/q_10").editable


def test_nothing_is_written_over_without_force(concepts, tmp_path):
    file = tmp_path / "tree.yaml"
    file.write_text("mine")
    answer = concepts("init", "--domain", "faces", "--out", file)
    assert (answer.exit_code, file.read_text()) == (2, "mine")
    assert "use --force to write over it" in answer.stderr
    assert concepts("init", "--domain", "faces", "--out", file, "--force").exit_code == 0
    assert read_tree(file).domain == "faces"


def test_init_needs_a_domain_and_a_place_that_exists(concepts, tmp_path):
    assert "--domain faces" in concepts("init").stderr
    answer = concepts("init", "--domain", "faces", "--out", tmp_path / "none" / "tree.yaml")
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (2, 1)


def test_show_prints_the_tree_as_it_is(concepts, tmp_path):
    """Kinds, operators, classes and reasons; markup in a name is text."""
    (tmp_path / "t.yaml").write_text(
        "schema: concept-tree/1\ndomain: '[red]faces'\nnodes:\n"
        "  - {id: a, kind: core, editable: false}\n"
        "  - {id: b, parent: a, kind: core, prompt_add: '[bold]x', vlm_question: q, applies_to: [cat]}\n"
        "  - {id: c, kind: core, editable: false, reason: too weak}\n"
    )
    answer = concepts("show", tmp_path / "t.yaml")
    assert answer.exit_code == 0
    for text in ("[red]faces", "1 editable of 3 nodes", "core  diffusion: [bold]x  for cat", "not tested: too weak"):
        assert text in answer.stdout


def test_check_counts_and_refuses(concepts, tmp_path):
    concepts("init", "--domain", "faces", "--people", "--out", tmp_path / "t.yaml")
    facts = json.loads(concepts("check", tmp_path / "t.yaml", "-o", "json").stdout)
    tree = default_tree("faces", people=True)
    assert (facts["digest"], facts["editable"], facts["kind_protected"]) == (tree.digest, len(tree.editable), 17)
    assert facts["operator_deterministic"] + facts["operator_diffusion"] == facts["editable"]
    (tmp_path / "t.yaml").write_text("schema: concept-tree/1\ndomain: x\nnodes:\n  - {id: a, kind: cor}\n")
    answer = concepts("check", tmp_path / "t.yaml")
    assert answer.exit_code == 2
    assert answer.stderr.count("\n") == 1
    assert "t.yaml: line 4: node 'a': `kind` cannot be 'cor'; did you mean 'core'?" in answer.stderr


def test_export_writes_the_other_formats_and_says_what_is_lost(concepts, tmp_path):
    concepts("init", "--domain", "faces", "--out", tmp_path / "t.yaml")
    answer = concepts("export", tmp_path / "t.yaml", "--format", "diffex", "--out", tmp_path / "d.json")
    assert answer.exit_code == 0
    assert "nodes left out, as no prompt edits them" in answer.stderr
    assert "grass in the background" in json.loads((tmp_path / "d.json").read_text())["categories"]["background"]
    assert concepts("export", tmp_path / "t.yaml", "--format", "csv", "--out", tmp_path / "t.csv").exit_code == 0
    assert len(read_tree(tmp_path / "t.csv").nodes) == len(default_tree("faces").nodes)
    assert yaml.safe_load(concepts("export", tmp_path / "t.yaml", "--format", "yaml").stdout)["domain"] == "faces"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for at in range(5):
        Image.fromarray(np.full((30, 40, 3), 40 * at, np.uint8)).save(tmp_path / "pictures" / "deep" / f"{at}.png")
    return tmp_path / "pictures"


def propose(concepts, folder, url, *more):
    return concepts("propose", folder, "--domain", "faces", "--endpoint", url, "--model", "m", *more)


def test_propose_asks_the_endpoint_and_writes_a_tree(concepts, folder, tmp_path, monkeypatch):
    """With pictures of the folder."""
    monkeypatch.setenv("NO_PROXY", "*")
    server = Server(**GOOD)
    with serving(server) as url:
        answer = propose(concepts, folder, url, "--out", tmp_path / "t.yaml", "--images-per-call", 2, "--calls", 2)
    assert answer.exit_code == 0, answer.stderr
    assert "sending 4 pictures" in answer.stderr
    assert read_tree(tmp_path / "t.yaml").node("headwear/beanie/red_beanie").source == "vlm"
    assert len(server.requests[0]["messages"][1]["content"]) == 3


def test_propose_falls_back_to_the_default_tree_and_says_so(concepts, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(Server(families=404)) as url:
        answer = propose(concepts, folder, url, "--out", tmp_path / "t.yaml")
    assert answer.exit_code == 0
    assert "this is the default tree" in answer.stderr
    assert read_tree(tmp_path / "t.yaml") == default_tree("faces")


def test_propose_refuses_before_it_sends_anything(concepts, folder, tmp_path):
    """A file that is there, an empty folder, a wrong URL."""
    (tmp_path / "t.yaml").write_text("mine")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((folder, "http://127.0.0.1:9", "--out", tmp_path / "t.yaml"), "--force"),
        ((tmp_path / "empty", "http://127.0.0.1:9"), "holds no pictures"),
        ((tmp_path / "none", "http://127.0.0.1:9"), "is no directory"),
        ((folder, "ftp://x"), "http or https URL"),
    ):
        answer = propose(concepts, *arguments)
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert message in answer.stderr
