"""The configuration file: what it derives, what it refuses and in which words."""

from pathlib import Path

import pytest
import yaml

from audit_plugin.config import load, masked, overridden, parse, schema
from audit_plugin.core.errors import CaptionError, ConfigError

BROKEN = Path(__file__).parent / "broken_configs"
BASE = BROKEN / "base.yaml"


def document(**changes):
    return yaml.safe_load(BASE.read_text()) | changes


@pytest.mark.parametrize("path", sorted(BROKEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_refused(path):
    """Every broken file is refused with the message in its first line, the file's name in front, in one line."""
    expected = path.read_text().splitlines()[0].removeprefix("# ").strip()
    if path == BASE:
        load(path, {})
        return
    with pytest.raises((ConfigError, CaptionError)) as refusal:
        load(path, {})
    assert expected in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="`audit-plugin init` writes a first one"):
        load(tmp_path / "audit.yaml", {})


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    """Whatever the working directory; archives, URLs and empty places are understood."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "audit.yaml").write_text(
        BASE.read_text().replace("photos", "photos.zip") + "bank: {images: 's3://bucket/x'}\ndetector: {path: /d.onnx}\n"
    )
    monkeypatch.chdir(tmp_path)
    config, home = load(Path("sub/audit.yaml"), {}).config, tmp_path / "sub"
    assert config.source.images == str(home / "photos.zip")
    assert (config.source.table, config.report) == (str(home / "table.csv"), str(home / "report"))
    assert (config.bank.path, config.bank.images) == (str(home / "bank"), "s3://bucket/x")
    assert (config.detector.path, config.generator.cache) == ("/d.onnx", None)


def test_files_that_look_at_counterfactuals_are_relative_to_the_file_too(tmp_path):
    """Models of the server are no files."""
    asked = {
        "witness": {"file": "other.onnx"},
        "features": {"file": "net.onnx"},
        "faces": {"model": "faces"},
        "perceptual": {"graph": "lpips.onnx"},
        "targets": {"red": ["green", "blue"]},
    }
    explain = parse(document(explain=asked), tmp_path).config.explain
    assert explain.witness.file == str(tmp_path / "other.onnx")
    assert (explain.features.file, explain.faces.file, explain.likeness) == (str(tmp_path / "net.onnx"), "", None)
    assert (explain.perceptual.graph, explain.perceptual.heads) == (str(tmp_path / "lpips.onnx"), "")
    assert explain.targets == {"red": ("green", "blue")}
    assert parse(document(explain={"targets": "all"}), tmp_path).config.explain.targets == "all"


def test_the_store_is_a_file_or_a_url(tmp_path):
    assert parse(document(), tmp_path).store_url == tmp_path / "audit.sqlite"
    assert parse(document(store="postgresql://db/audits"), tmp_path).store_url == "postgresql://db/audits"


def test_secret_files_are_relative_to_the_file(tmp_path):
    server = {"url": "triton:8001", "token_file": "token", "tls": {"ca": "ca.pem"}}
    target = parse(document(server=server), tmp_path).models[0].target
    assert target.token_file == tmp_path / "token"
    assert target.tls is not None
    assert (target.tls.ca, target.tls.key) == (tmp_path / "ca.pem", None)


def test_models_share_the_server():
    """A model's own keys come before the shared ones, and a version may be written as a number."""
    models = [{"model": "a", "label": "sick"}, {"model": "b", "label": "sick", "url": "other:8001", "version": 3}]
    first, second = parse(document(models=models, server={"url": "triton:8001", "concurrency": 5}), Path()).models
    assert (first.target.url, first.target.concurrency, first.target.version) == ("triton:8001", 5, None)
    assert (second.target.url, second.target.concurrency, second.target.version) == ("other:8001", 5, "3")


def test_the_environment_overrides():
    """Sections, sections that are not there yet, list items, and YAML values."""
    environment = {
        "AUDIT_PLUGIN__SERVER__URL": "elsewhere:8001",
        "AUDIT_PLUGIN__SERVE__PORT": "0",
        "AUDIT_PLUGIN__MODELS__0__VERSION": "2",
        "AUDIT_PLUGIN__GENERATOR__GUIDANCE_INTERVAL": "[0.2, 0.8]",
        "OTHER": "x",
    }
    loaded = load(BASE, environment)
    assert (loaded.models[0].target.url, loaded.models[0].target.version) == ("elsewhere:8001", "2")
    assert (loaded.config.serve.port, loaded.config.generator.guidance_interval) == (0, (0.2, 0.8))
    assert "elsewhere:8001" in loaded.text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AUDIT_PLUGIN__AUDIT__X", "1", "'audit' is not a section"),
        ("AUDIT_PLUGIN__MODELS__7__VERSION", "1", "'models.7' is not a section"),
        ("AUDIT_PLUGIN__STORE", "[", "is not a YAML value; quote it"),
        ("AUDIT_PLUGIN__SERVR__URL", "a:1", "did you mean `server`"),
    ],
)
def test_overrides_that_lead_nowhere(name, value, message):
    with pytest.raises(ConfigError, match=message):
        load(BASE, {name: value})


def test_overriding_leaves_the_document_alone():
    before = document()
    overridden(before, {"AUDIT_PLUGIN__SERVER__URL": "x:1"})
    assert before == document()


def test_secrets_are_masked():
    """Neither headers nor passwords in URLs reach the store, the report or the screen."""
    loaded = parse(document(server={"url": "t:1", "headers": {"x-key": "s3cret"}}, store="postgresql://me:s3cret@db/a"), Path())
    assert "s3cret" not in loaded.text
    assert loaded.models[0].target.headers == {"x-key": "s3cret"}
    assert masked("s3://bucket/a@b:c") == "s3://bucket/a@b:c"


def test_the_effective_configuration_is_one():
    """What is printed and stored has all defaults filled in, and means the same when it is read again."""
    loaded = load(BASE, {})
    again = parse(yaml.safe_load(loaded.text), BASE.parent)
    assert again == loaded
    assert yaml.safe_load(loaded.text)["serve"]["port"] == 18877


def test_the_digest_follows_the_effect():
    assert load(BASE, {}).digest == load(BASE, {"AUDIT_PLUGIN__SERVE__PORT": "18877"}).digest
    assert load(BASE, {}).digest != load(BASE, {"AUDIT_PLUGIN__SERVE__PORT": "1"}).digest


def test_concepts_and_policy_may_lie_in_files(tmp_path):
    (tmp_path / "c.csv").write_text("name,level,phrase\nsite,sun,in the sun\nsite,shade,in the shade\n")
    (tmp_path / "p.yaml").write_text("{name: mine, thresholds: [{name: t, owner: o, reason: r, date: 2026-11-22}]}")
    loaded = parse(document(concepts="c.csv", template=None, policy="p.yaml"), tmp_path)
    assert (loaded.document.concept_set.names, loaded.policy.name) == (("site",), "mine")
    with pytest.raises(ConfigError, match="belong into the concept file"):
        parse(document(concepts="c.csv"), tmp_path)


def test_the_schema_names_what_the_file_takes():
    """Every key of the base file is described; models take the target's keys as well; nothing else is allowed."""
    described = schema()
    assert document().keys() <= described["properties"].keys()
    assert not described["additionalProperties"]
    assert {"model", "label", "url", "preprocess"} <= described["properties"]["models"]["items"]["properties"].keys()
    assert described["properties"]["audit"]["description"].startswith("Name of the audit")
    references = {text.split('"')[0] for text in yaml.safe_dump(described).split("#/$defs/")[1:]}
    assert {reference.split("\n")[0].strip("'") for reference in references} <= described["$defs"].keys()
