"""The project as a whole: layers, wheel, pins, and documents that agree with the code."""

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import audit_plugin
from audit_plugin.cli.app import app
from audit_plugin.config import parse
from tests import pins

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fenced(kind):
    """Code blocks of the README in one language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def said_commands(text):
    """``audit-plugin`` sub-commands that a text mentions, with their options."""
    found = re.findall(r"audit-plugin ((?:(?:config|bank|generator|capture) )?[a-z]+)((?: [^`\n#)]*)?)", text)
    return sorted({(command, option) for command, rest in found for option in [None, *re.findall(r"(--[a-z-]+)", rest)]}, key=str)


def test_import_directions_hold():
    """The layers of pyproject.toml, by import-linter."""
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what git knows, by the installed build backend: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    keep = shutil.ignore_patterns(".*", "demo-output", "tests", "__pycache__", "dist", "build")
    shutil.copytree(ROOT, folder / "source", ignore=keep)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        str(folder),
        "./source",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize(
    "pattern",
    [
        "audit_plugin/py.typed",
        "engines/py.typed",
        "audit_plugin/report/templates/report.html.j2",
        "audit_plugin/report/templates/style.css",
        "audit_plugin/service/templates/exporter.html.j2",
        "audit_plugin/store/migrations/env.py",
        "audit_plugin/store/migrations/versions/v0001_.*.py",
        "audit_plugin/demo/serving/config.pbtxt",
        "audit_plugin/demo/assets/detector/scenes.onnx",
        "audit_plugin/demo/assets/generator/unet/diffusion_pytorch_model.safetensors",
        "audit_plugin/demo/assets/pixels/unet/diffusion_pytorch_model.safetensors",
        "audit_plugin/demo/assets/planted/shape_clean.onnx",
        r"audit_plugin-[\d.]+\.dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_contains(wheel, pattern):
    """Whatever the code reads at run time travels along."""
    with zipfile.ZipFile(wheel) as archive:
        assert any(re.fullmatch(pattern, name) for name in archive.namelist())


def test_the_wheel_contains_no_tests_and_is_small(wheel):
    """Weights and all below 40 MB."""
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0].split("-")[0] for name in archive.namelist()} == {"audit_plugin", "engines"}
    assert wheel.stat().st_size < 40e6


def test_one_version_everywhere(wheel):
    """Package, wheel, command line and changelog."""
    version = audit_plugin.__version__
    assert wheel.name.startswith(f"audit_plugin-{version}-")
    assert CliRunner().invoke(app, ["version"]).stdout.strip() == version
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_every_dependency_of_development_is_pinned():
    """Regenerate with `python -m tests.pins` in an environment made without constraints."""
    pinned = pins.pinned((ROOT / "constraints.txt").read_text())
    declared = {Requirement(text).name for text in pins.distribution(pins.ROOT).requires if "[" not in text} - {
        "onnxruntime-gpu",
        "tensorrt",
    }
    assert pins.closure().keys() - pinned.keys() == set()
    assert {pins.canonicalize_name(name) for name in declared} - pinned.keys() == set()


@pytest.mark.parametrize("text", fenced("yaml"), ids=lambda text: text.split("\n")[0][:30])
def test_configurations_in_the_readme_are_read(text, tmp_path):
    """By the code that reads a user's file."""
    document = yaml.safe_load(text)
    assert parse(document, tmp_path).models


@pytest.mark.parametrize(("command", "option"), said_commands(README))
def test_commands_in_the_readme_exist(command, option):
    """With the options shown."""
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert option is None or option in done.output


def test_the_tables_of_the_readme_are_current(generate):
    """Metrics and benchmarks; regenerate with `python docs/generate.py`."""
    assert generate.current(README) == README


def test_the_configuration_page_is_current(generate):
    """Regenerate with `python docs/generate.py`."""
    assert generate.CONFIGURATION.read_text(encoding="utf-8") == generate.configuration_page()


def test_the_configuration_page_covers_every_section(generate):
    """Every dataclass that the configuration is made of has its table."""
    from dataclasses import is_dataclass
    from typing import get_args, get_type_hints

    def reachable(kind, seen):
        if is_dataclass(kind) and kind not in seen:
            seen.add(kind)
            for hint in get_type_hints(kind).values():
                for one in (hint, *get_args(hint)):
                    reachable(one, seen)
        return seen

    shown = set(generate.SECTIONS.values())
    assert {kind for top in (generate.Config, generate.AuditedModel, generate.Policy) for kind in reachable(top, set())} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page):
    """Relative links name files that are there."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
