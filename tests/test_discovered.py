"""What is kept of a discovery beside the bank, and how words enter the prompts of the configured generator."""

import shutil

import pytest
from structlog.testing import capture_logs

from audit_plugin.concepts.phrasing import CaptionForms, Sentences
from audit_plugin.config import load
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.discovered import (
    discovered_file,
    keep_discovery,
    known_discovery,
    lines_of,
    phrasing_of_generator,
    probe_folder,
    with_probes,
)
from audit_plugin.methods.diffexplainer.nodes import with_probe
from audit_plugin.sources.folder import open_folder
from audit_plugin.wiring import directory_digest
from tests.bank.world import FakeDetector
from tests.end_to_end.site import ASSETS, make_site
from tests.findings.found import discovery, idle, subject, word

FORMS = "a red cat on sand\na red dog on sand\na blue cat on sand\na blue dog on sand\n"


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path / "site", 24)


def rows(site):
    loaded = load(site.config, {})
    return open_folder(loaded.config.source, loaded.document.columns).rows


def test_a_discovery_is_known_for_its_version_alone(site):
    loaded = load(site.config, {})
    found = discovery(subject(word(), idle()), model="ham/2", version="1")
    assert known_discovery(loaded, "ham/2", "1") is None
    keep_discovery(loaded, found)
    assert known_discovery(loaded, "ham/2", "1") == found
    assert known_discovery(loaded, "ham/2", "2") is None
    assert [file.name for file in (site.folder / "bank" / "discoveries").iterdir()] == ["ham_2-1.json"]


@pytest.mark.parametrize("harm", [b"", b"{", b"\xff\xfe", b'{"model": "ham"}'])
def test_a_discovery_that_cannot_be_read_is_none_and_is_told(site, harm):
    """An audit goes on without it."""
    loaded = load(site.config, {})
    keep_discovery(loaded, discovery(subject(word())))
    (file,) = (site.folder / "bank" / "discoveries").iterdir()
    file.write_bytes(harm)
    with capture_logs() as told:
        assert known_discovery(loaded, "ham", "1") is None
    assert told[0]["event"] == "a discovery cannot be read; `audit-plugin discover` makes it again"
    assert told[0]["file"] == str(file)


def test_captions_come_from_who_is_named_first(site):
    """A file that is named, captions beside the generator, those of the rows; sentences where none of them teaches a place."""
    here = site.folder / "generator"
    here.mkdir()
    by_rows = phrasing_of_generator(load(site.config, {}), rows(site))
    assert "water" in by_rows.phrases
    (here / "captions.txt").write_text(FORMS)
    beside = phrasing_of_generator(load(site.config, {}), rows(site))
    assert beside.phrases == ("blue", "cat", "dog", "red")
    (site.folder / "own.txt").write_text(FORMS.replace("dog", "cow"))
    named = phrasing_of_generator(load(site.change(discover={"captions": "own.txt"}).config, {}), rows(site))
    assert "cow" in named.phrases
    (site.folder / "own.txt").write_text("a dog\n\n")
    plain = phrasing_of_generator(load(site.change(discover={"contexts": ["a drawing"]}).config, {}), rows(site))
    assert plain == Sentences(("a drawing",))
    assert isinstance(named, CaptionForms)


def test_captions_beside_a_generator_change_no_picture(tmp_path):
    """Nor what its pictures are known by; other files do."""
    generator = shutil.copytree(
        ASSETS / "generator", tmp_path / "generator", ignore=shutil.ignore_patterns("graphs", "*.safetensors")
    )
    before = directory_digest(generator)
    (generator / "captions.txt").write_text("others\n")
    assert directory_digest(generator) == before
    (generator / "captions.txt").unlink()
    assert directory_digest(generator) == before
    (generator / "unet" / "captions.txt").write_text("no captions\n")
    assert directory_digest(generator) != before


def test_lines_of_a_file(tmp_path):
    (tmp_path / "words").write_text(" sand \n\nred  dog\n")
    assert lines_of(tmp_path / "words", "key") == ["sand", "red  dog"]
    with pytest.raises(ConfigError, match=r"^discover.words: .*away cannot be read"):
        lines_of(tmp_path / "away", "discover.words")


def test_nodes_are_written_where_that_is_configured(site):
    assert discovered_file(load(site.config, {})) == site.folder / "bank" / "discovered.yaml"
    assert discovered_file(load(site.change(discover={"tree": "found.yaml"}).config, {})) == site.folder / "found.yaml"


def test_probes_of_the_trees_own_nodes_are_read(site):
    """Those of other trees lie beside them unused."""
    loaded, detector = load(site.config, {}), FakeDetector()
    assert with_probes(detector, loaded, ConceptTree(domain="scenes", nodes=())) == (detector, {})
    assets, folder = ASSETS / "detector", probe_folder(loaded)
    shutil.copytree(assets, folder)
    node = with_probe(Node(path="discovered/dim", name="dim", source="diffexplainer"), "lighting", "dim")
    read, levels = with_probes(detector, loaded, ConceptTree(domain="scenes", nodes=(node,)))
    assert levels["lighting"] == ("bright", "dim")
    assert read.detectors[0] is detector
    assert with_probes(detector, loaded, ConceptTree(domain="scenes", nodes=(Node(path="a", name="a"),))) == (detector, {})
