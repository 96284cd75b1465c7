"""From words that act to nodes of the concept tree."""

from dataclasses import replace

import pytest

from audit_plugin.bank.asks import PHRASE
from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.concepts.tree_io import read_tree, tree_to_yaml
from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.methods.diffexplainer.nodes import TOP, chosen, pointed, proposals, with_probe, with_proposals
from tests.findings.found import idle, subject, word
from tests.methods.diffexplainer.planted_words import CAPTIONS

EMPTY = ConceptTree(domain="scenes", nodes=())
TREE = ConceptTree(
    domain="scenes",
    nodes=(Node(path="place", name="place", editable=False), Node(path="place/sand", name="sand", prompt_add="on sand")),
)


def found(name, low=0.3, **changes):
    return word(name, low, **{"node": "", "kind": None, "part": WordPart.UNKNOWN, "inside": None, "part_by": "", **changes})


def nodes_of(proposed):
    return [node for node, _ in proposed]


def test_only_what_acts_is_not_core_and_is_not_known_is_proposed():
    """However it is written; strongest first, each once."""
    malignant = subject(found("ruler", 0.2), found("blob", part=WordPart.CORE), found("the sand"), idle())
    benign = subject(found("with a ruler", 0.5), found("water"), name="benign")
    proposed = proposals([malignant, benign], TREE, Sentences())
    assert [(node.path, told.subject) for node, told in proposed] == [(f"{TOP}/ruler", "benign"), (f"{TOP}/water", "benign")]
    node, told = proposed[0]
    assert (node.kind, node.source, node.prompt_add) == (NodeKind.NUISANCE, "diffexplainer", "with a ruler")
    assert (told.path, told.kind, told.accepted) == (node.path, node.kind, False)
    assert "saying 'with a ruler' raises the share of pictures taken for benign" in told.evidence
    assert "difference of +0.60 [+0.50, +0.70]" in told.evidence


def test_paths_are_unique_where_names_become_alike():
    """Also those of an earlier round, which stay as they are."""
    first = nodes_of(proposals([subject(found("ice-cream"))], EMPTY, Sentences()))
    tree = with_proposals(EMPTY, first)
    words = [found("ice cream!"), found("ice_cream", 0.2), found("icé cream", 0.1)]
    more = nodes_of(proposals([subject(*words)], tree, Sentences()))
    paths = [node.path for node in (*first, *more)]
    assert len(set(paths)) == len(paths)
    whole = with_proposals(tree, more)
    assert [node.path for node in whole.nodes] == [TOP, *paths]
    assert len({node.path for node in whole.nodes}) == len(whole.nodes)


def test_a_second_round_proposes_nothing_new():
    """Nor does what is accepted change any node that was there."""
    subjects = [subject(found("ruler"), found("beside a snowman"))]
    proposed = nodes_of(proposals(subjects, TREE, CAPTIONS))
    tree = with_proposals(TREE, proposed)
    assert tree.nodes[: len(TREE.nodes)] == TREE.nodes
    assert proposals(subjects, tree, CAPTIONS) == ()
    assert with_proposals(tree, []) is tree
    assert with_proposals(tree, proposed) == tree


def test_words_with_a_place_in_captions_are_asked_for_by_whole_captions():
    """Those that stand in for each other are of one group: one of them at a time."""
    words = [found(name) for name in ("red", "blue", "with a ruler", "sofa")]
    nodes = {node.name: node for node in nodes_of(proposals([subject(*words)], EMPTY, CAPTIONS))}
    assert {name: node.params.get(PHRASE) for name, node in nodes.items()} == {
        "red": "red", "blue": "blue", "ruler": "with a ruler", "sofa": None,
    }  # fmt: skip
    assert nodes["red"].group == nodes["blue"].group != ""
    assert nodes["ruler"].group == nodes["sofa"].group == ""
    assert not with_proposals(EMPTY, list(nodes.values())).compatible(f"{TOP}/red", f"{TOP}/blue")
    assert (nodes["ruler"].scale, nodes["sofa"].scale) == (1.0, Node(path="a", name="a").scale)


def test_nodes_survive_the_file_they_are_kept_in(tmp_path):
    nodes = nodes_of(proposals([subject(found("with a ruler"), found("sofa"))], EMPTY, CAPTIONS))
    nodes[0] = with_probe(nodes[0], "discovered ruler", "present")
    file = tmp_path / "tree.yaml"
    file.write_text(tree_to_yaml(with_proposals(EMPTY, nodes)))
    assert {node.path: node for node in read_tree(file).nodes if node.path != TOP} == {node.path: node for node in nodes}


def test_each_proposal_is_decided_on_and_words_point_at_their_nodes():
    subjects = [subject(found("ruler"), found("sofa", 0.2), word("lamp"))]
    decided = chosen(proposals(subjects, EMPTY, Sentences()), lambda told: told.word == "ruler")
    assert {told.word: told.accepted for _, told in decided} == {"ruler": True, "sofa": False, "lamp": False}
    (one,) = pointed(subjects, [node for node, told in decided if told.accepted])
    assert [each.node for each in one.words] == [f"{TOP}/ruler", "", "scene/lamp"]
    assert pointed(subjects, []) == tuple(subjects)


@pytest.mark.parametrize("part", [WordPart.SPURIOUS, WordPart.MIXED])
def test_what_decided_is_told_with_the_evidence(part):
    ((_, told),) = proposals([subject(replace(found("ruler"), part=part, part_by="occlusion"))], EMPTY, Sentences())
    assert told.evidence.endswith(f"; it is {part.value} by occlusion")
