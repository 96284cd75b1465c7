"""Concept trees as files."""

import json

import pytest

from audit_plugin.concepts.default_tree import default_tree
from audit_plugin.concepts.tree_diffex import tree_to_diffex
from audit_plugin.concepts.tree_io import read_tree, tree_from_text, tree_to_json, tree_to_yaml
from audit_plugin.concepts.tree_table import lost_in_csv, tree_from_csv, tree_to_csv
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind

YAML = """\
schema: concept-tree/1
domain: faces
base_caption: "a photo of a person's face"
nodes:
  - id: facewear
    name: facewear
    parent: null
    kind: nuisance
    group: facewear
    applies_to: ["*"]
    editable: true
    prompt_add: "wearing glasses"
    prompt_remove: null
    present: ["a photo of a face with glasses"]
    absent: ["a photo of a face without glasses"]
    vlm_question: "Is the person wearing glasses? yes or no"
    region: "eyes"
    strength: {scale: 10, threshold: 0.5}
    operator: diffusion
    params: {}
    source: person
  - {id: sunglasses, parent: facewear, name: sunglasses, kind: protected, group: facewear,
     prompt_add: "wearing sunglasses", present: ["a face with sunglasses"], absent: ["a face without sunglasses"]}
  - {id: dark, kind: quality, operator: deterministic, params: {op: brightness, change: -0.3}}
"""
NODE = "schema: concept-tree/1\ndomain: faces\nnodes:\n  - {id: a, kind: core, editable: false}\n  - "
BOMB = (
    "[&a [x, x], "
    + ", ".join(f"&{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + "]"
)
"""Aliases of aliases: a hundred million texts if anybody wrote them out."""
DIFFEX = {
    "domain": "Faces",
    "categories": {"Accessories": {"Hat": ["beanie", "Beanie ", "fedora"], "scarf": []}, "hair": ["blond", "grey"]},
}


def test_the_documented_format_is_read_in_full():
    """Every key of the specification's example."""
    tree = tree_from_text(YAML)
    first, second, third = tree.nodes
    assert (first.prompt_add, first.region, first.scale, first.threshold) == ("wearing glasses", "eyes", 10.0, 0.5)
    assert (second.path, second.kind, second.exclusive) == ("facewear/sunglasses", NodeKind.PROTECTED, "facewear")
    assert dict(third.params) == {"op": "brightness", "change": -0.3}
    assert tree.base_caption == "a photo of a person's face"


def full_tree():
    """A node with every field at a value of its own, the sort of texts that YAML likes to misread, and the whole default tree."""
    odd = Node(
        path="x",
        name="no: #yes",
        kind=NodeKind.CORE,
        group="g",
        applies_to=("on", "1_000"),
        operator="attribute",
        params={"attr": 3, "value": 1},
        prompt_add="'quoted' \"twice\" {class}",
        prompt_remove="null",
        present=("1.5", "ü 猫"),
        absent=("~",),
        question="yes?",
        region="-",
        scale=1e-3,
        threshold=0.0,
        source="vlm",
        kind_reason="because",
    )
    idle = Node(path="1_2", name="1", editable=False, reason="valid-edit rate 0.2", source="diffexplainer")
    default = default_tree("x", ["cat", "dog"], people=True)
    return ConceptTree(domain="true", language="de", base_caption="2021-06-14", nodes=(odd, idle, *default.nodes))


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_written_reads_back_equal(form, tmp_path):
    """Node by node, and so by digest."""
    tree, file = full_tree(), tmp_path / f"tree.{form}"
    file.write_text(tree_to_yaml(tree) if form == "yaml" else tree_to_json(tree), encoding="utf-8")
    assert read_tree(file) == tree
    assert read_tree(file).digest == tree.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NODE + "{id: b, kind: core, promt_add: x}", r"line 5: node 'b': unknown key 'promt_add'; did you mean 'prompt_add'\?"),
        (NODE + "{id: b, kind: protectd}", r"line 5: node 'b': `kind` cannot be 'protectd'; did you mean 'protected'\?"),
        (NODE + "{id: b}", "line 5: node 'b' has no `kind`; say what it is to the task: core, context"),
        (NODE + "{kind: core}", "line 5: node 2 has no `id`"),
        (NODE + "{id: 1_2, kind: core}", "`id` was read as 12; put text .* in quotes"),
        (NODE + "{id: b, kind: core, present: [no]}", "`present` must be a list of texts"),
        (NODE + "{id: b, kind: core, operator: difusion}", "did you mean 'diffusion'"),
        (NODE + "{id: b, kind: core, source: robot}", "`source` cannot be 'robot'"),
        (NODE + "{id: b, kind: core, strength: {scal: 1}}", "`strength`: unknown key 'scal'; did you mean 'scale'"),
        (NODE + "{id: b, kind: core, strength: {scale: big}}", "`strength.scale` must be a number"),
        (NODE + "{id: b, kind: core, strength: 3}", "`strength` must be a mapping"),
        (NODE + "{id: b, kind: core, editable: maybe}", "`editable` must be true or false"),
        (NODE + "{id: b, kind: core, params: [1]}", "`params` must be a mapping"),
        (NODE + "{id: b, kind: core, params: {op: [jpeg]}}", "`params` must be a mapping"),
        (NODE + "{id: b, kind: core, parent: c}", "line 5: node 'b': parent 'c' is no node"),
        (NODE + "hat", "line 5: node 2 must be a mapping"),
        (NODE + "{id: b, id: c, kind: core}", "line 5: the key 'id' is there twice"),
        (NODE + "{id: b, kind: [core}", "line 5: not valid YAML"),
        ("schema: concept-tree/2\nnodes: []", "this version reads 'concept-tree/1'"),
        ("schema: concept-tree/1\nnodes: []", "needs a `domain`"),
        ("schema: concept-tree/1\ndomain: x\nnode: []", "unknown key 'node'; did you mean 'nodes'"),
        ("schema: concept-tree/1\ndomain: x\nnodes: {}", "`nodes` must be a list"),
        ("- a", "expected a mapping"),
        ("!!python/object:os.system {}", "not valid YAML"),
        ("[" * 100_000, "line 1: nested too deeply"),
        (NODE + BOMB, "line 5: node 2 must be a mapping"),
        (NODE + f"{{id: {BOMB}, kind: core}}", "`id` was read as"),
        (NODE + f"{{id: b, kind: {BOMB}}}", "`kind` cannot be"),
        (NODE + f"{{id: b, kind: core, present: {BOMB}}}", "`present` must be a list of texts"),
        (NODE + f"{{id: b, kind: core, params: {{x: {BOMB}}}}}", "`params` must be a mapping"),
    ],
)
def test_broken_documents_are_refused_with_file_and_line(text, message, tmp_path):
    file = tmp_path / "tree.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tree(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_json_errors_name_the_line(tmp_path):
    """Of the text where it is not JSON, and of the node where it is."""
    file = tmp_path / "tree.json"
    file.write_text('{"schema": "concept-tree/1",\n "domain": "x"\n "nodes": []}')
    with pytest.raises(ConfigError, match="line 3: not valid JSON"):
        read_tree(file)
    file.write_text(
        '{"schema": "concept-tree/1", "domain": "x", "nodes": [\n\t{"id": "a", "kind": "core", "editable": false},\n\t{"id": "b"}]}'
    )
    with pytest.raises(ConfigError, match="line 3: node 'b' has no `kind`"):
        read_tree(file)


def test_half_a_character_is_refused(tmp_path):
    """JSON can spell what no file can hold."""
    (tmp_path / "t.json").write_text(
        tree_to_json(tree_from_text(NODE + "{id: b, kind: core, editable: false}")).replace('"b"', '"\\ud83d"', 1)
    )
    with pytest.raises(ConfigError, match="half of a character"):
        read_tree(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(json.dumps({"domain": "x", "categories": {"\ud83d": ["y"]}}))
    with pytest.raises(ConfigError, match="half of a character"):
        read_tree(tmp_path / "t.json")


def test_unreadable_files_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tree(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tree(tmp_path / "bytes.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="more than a tree can need"):
        read_tree(tmp_path / "large.yaml")


def test_the_released_format_becomes_containers_items_and_leaves(tmp_path):
    """Keywords are prompts, lower-cased and once; sentences come from the base caption."""
    file = tmp_path / "diffex.json"
    file.write_text(json.dumps(DIFFEX))
    tree = read_tree(file)
    assert [(node.path, node.prompt_add, node.editable) for node in tree.nodes] == [
        ("accessories", "", False),
        ("accessories/hat", "hat", True),
        ("accessories/hat/beanie", "beanie", True),
        ("accessories/hat/fedora", "fedora", True),
        ("accessories/scarf", "scarf", True),
        ("hair", "", False),
        ("hair/blond", "blond", True),
        ("hair/grey", "grey", True),
    ]
    beanie = tree.node("accessories/hat/beanie")
    assert (beanie.present, beanie.absent, beanie.source) == (("a photo of Faces, beanie",), ("a photo of Faces",), "import")
    assert not tree.compatible("accessories/hat/beanie", "accessories/hat/fedora")
    assert tree.compatible("accessories/hat", "accessories/scarf")
    assert not tree.compatible("hair/blond", "hair/grey")


def test_the_released_format_survives_the_round():
    """Up to lower case and doubles, which the released code removes as well."""
    document, left_out = tree_to_diffex(tree_from_text(json.dumps(DIFFEX)))
    hair = {"blond": [], "grey": []}
    assert document == {"domain": "Faces", "categories": {"accessories": {"hat": ["beanie", "fedora"], "scarf": []}, "hair": hair}}
    assert left_out == ()
    again, _ = tree_to_diffex(tree_from_text(json.dumps(document)))
    assert again == document


def test_items_with_one_keyword_keep_the_leaves_of_both():
    nodes = (
        "{id: c, kind: core, editable: false}\n",
        *(
            f"{{id: {own}, parent: {above}, kind: core, prompt_add: {words}, present: [x], absent: [z]}}\n"
            for own, above, words in (("a", "c", "hat"), ("b", "c", "hat"), ("l", "a", "beanie"), ("m", "b", "fedora"))
        ),
    )
    document, _ = tree_to_diffex(
        tree_from_text("schema: concept-tree/1\ndomain: d\nnodes:\n" + "".join(f"- {one}" for one in nodes))
    )
    assert document["categories"] == {"c": {"hat": ["beanie", "fedora"]}}


def test_export_to_the_released_format_tells_what_no_prompt_edits():
    document, left_out = tree_to_diffex(tree_from_text(YAML))
    assert document["categories"] == {"facewear": {"wearing glasses": ["wearing sunglasses"]}}
    assert left_out == ("dark",)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ('{"a": {"b": ["c",\n 3]}}', "line 2: 3 is no keyword"),
        ('{"a":\n {"b": "c"}}', "line 2: a/b must be a list of keywords"),
        ('{"a":\n 3}', "a must be a list of keywords"),
        ("[]", "line 1: `categories` must be an object"),
        ('{"a": ["x"],\n "a": ["y"]}', "the key 'a' is there twice"),
    ],
)
def test_a_broken_diffex_file_is_refused_with_file_and_line(categories, message, tmp_path):
    file = tmp_path / "d.json"
    file.write_text('{"domain": "x", "categories": ' + categories + "}")
    with pytest.raises(ConfigError, match=message) as caught:
        read_tree(file)
    assert str(caught.value).startswith(str(file))


CSV = """\
parent,name,kind,prompt_add
,Face wear,nuisance,
Face wear,Glasses,protected,wearing glasses
face_wear/glasses,Sunglasses,,wearing sunglasses
"""


def test_four_columns_are_enough():
    """Parents by name or path, kinds from the parent, sentences from the base caption."""
    tree = tree_from_csv(CSV, domain="faces", base_caption="a portrait")
    assert [(node.path, str(node.kind), node.editable) for node in tree.nodes] == [
        ("face_wear", "nuisance", False),
        ("face_wear/glasses", "protected", True),
        ("face_wear/glasses/sunglasses", "protected", True),
    ]
    assert tree.nodes[2].present == ("a portrait, wearing sunglasses",)


def test_parameters_in_a_table_keep_their_type():
    """Numbers are numbers, and a level such as 007 stays text."""
    table = 'parent,name,kind,prompt_add,operator\n,a,core,x,"diffusion:concept=site,level=007"\n,b,core,,"deterministic:op=gamma,gamma=0.5"\n'
    first, second = tree_from_csv(table, domain="x").nodes
    assert (dict(first.params), second.params["gamma"]) == ({"concept": "site", "level": "007"}, 0.5)


def test_csv_carries_the_default_tree():
    """All but what it says it loses."""
    tree = default_tree("faces", ["cat, tabby", "dog"], people=True)
    again = tree_from_csv(tree_to_csv(tree), domain=tree.domain, base_caption=tree.base_caption)
    assert lost_in_csv(tree) == ()
    assert [
        (n.path, n.name, n.kind, dict(n.params), n.exclusive, n.present, n.absent, n.question, n.applies_to) for n in again.nodes
    ] == [(n.path, n.name, n.kind, dict(n.params), n.exclusive, n.present, n.absent, n.question, n.applies_to) for n in tree.nodes]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parent,name,knd,prompt_add\n", "line 1: the table has no column 'kind'; did you mean 'knd'"),
        ("parent,name,kind,prompt_add,presnt\n", "line 1: unknown column 'presnt'; did you mean 'present'"),
        ("parent,name,kind,prompt_add,name\n", "there twice"),
        ("", "no column 'parent'"),
        (CSV + "x,Hat,nuisance,hat\n", "line 5: node 'hat': parent 'x' is no node"),
        (CSV + ",Hat,nuisanse,hat\n", "line 5: `kind` cannot be 'nuisanse'; did you mean 'nuisance'"),
        (CSV + ",,nuisance,hat\n", "line 5: the cell of `name` is empty"),
        (CSV + ",hat,nuisance,a,b\n", "line 5: more cells than columns"),
        (CSV + ',hat,nuisance,"a\n', "line [45]: not valid CSV"),
        ("parent,name,kind,prompt_add,operator\n,a,core,,exact\n", "line 2: `operator` cannot be 'exact'"),
        ("parent,name,kind,prompt_add,operator\n,a,core,,deterministic\n", "line 2: node 'a': `params` must name its operator"),
        ("parent,name,kind,prompt_add,operator\n,a,core,,deterministic:jpeg\n", "write name:key=value"),
        ('parent,name,kind,prompt_add,operator\n,a,core,,"deterministic:op=jpeg,quality=x"\n', "needs a whole number"),
    ],
)
def test_a_broken_table_is_refused_with_file_and_line(text, message, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tree(file)
    assert str(caught.value).startswith(str(file))
