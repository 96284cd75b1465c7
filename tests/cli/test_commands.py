"""Commands, their forms of output and their exit codes."""

import json
import subprocess
import sys

import pytest
import yaml

import audit_plugin
from audit_plugin.cli import app as commands
from audit_plugin.core.confirm import ToConfirm
from audit_plugin.core.results import RunState
from audit_plugin.store.store import Store
from tests.findings.examples import result as make_result
from tests.findings.trees import node, tree

COMMANDS = [
    ("version",),
    ("init",),
    ("doctor",),
    ("run",),
    ("report",),
    ("status",),
    ("serve",),
    ("demo",),
    ("config", "check"),
    ("config", "schema"),
    ("bank", "build"),
    ("bank", "verify"),
    ("generator", "train"),
    ("generator", "solver"),
    ("selftest",),
    ("compare",),
    ("gate",),
    ("export",),
    ("verify",),
    ("prune",),
    ("forget",),
    ("hold",),
    ("release",),
    ("concepts", "confirm"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run, command):
    """``--help`` ends with 0, has a sentence, and touches nothing."""
    answer = run(*command, "--help")
    assert answer.exit_code == 0
    assert "Usage" in answer.stdout
    assert "." in answer.stdout.split("Options")[0].split("Usage")[1]


def test_the_exit_codes_are_documented(run):
    text = " ".join(run("--help").stdout.split())
    assert "0 clean, 1 findings above threshold, 2 usage or configuration, 3 could not run, 130 interrupted" in text


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("run",), ("run", "a", "b"), ("run", "--nonsense"), ("run", "x", "-o", "xml")]
)
def test_usage_errors_end_with_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_a_version_and_nothing_else(run):
    assert run("version").stdout == f"{audit_plugin.__version__}\n"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        ([RunState.SUCCEEDED], 0),
        ([RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_FINDINGS], 1),
        ([RunState.SUCCEEDED_WITH_FINDINGS, RunState.INVALID_GENERATOR], 3),
        ([RunState.INSUFFICIENT_DATA], 3),
    ],
)
def test_exit_code_of_results(states, code):
    """A broken audit outranks findings."""
    assert commands.exit_code([make_result(state=state) for state in states]) == code


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load), ("table", yaml.safe_load)])
def test_the_configuration_as_it_takes_effect(run, config, form, read):
    """``config check`` is offline and prints the whole configuration."""
    answer = run("config", "check", config, "--output", form)
    assert answer.exit_code == 0
    assert read(answer.stdout)["serve"]["port"] == 18877
    assert answer.stderr == ""


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_schema(run, form, read):
    assert "models" in read(run("config", "schema", "--output", form).stdout)["properties"]


def test_the_environment_counts(run, config, monkeypatch):
    monkeypatch.setenv("AUDIT_PLUGIN__SERVE__PORT", "many")
    answer = run("config", "check", config)
    assert answer.exit_code == 2
    assert "serve.port" in answer.stderr


def test_our_own_mistakes_are_no_findings(run, config, monkeypatch):
    """An unexpected exception ends with 3, and shows where it came from."""
    monkeypatch.setattr(commands, "load", lambda _: 1 / 0)
    answer = run("config", "check", config)
    assert answer.exit_code == 3
    assert "ZeroDivisionError" in answer.stderr


def test_ctrl_c(run, config, monkeypatch):
    """130, and what to do next."""

    def interrupted(_path):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load", interrupted)
    answer = run("config", "check", config)
    assert (answer.exit_code, answer.stderr) == (130, "interrupted; run the same command again to go on\n")


class TestStore:
    """Commands that only read the store."""

    @pytest.fixture
    def config(self, config, tmp_path):
        """One audited model in the store, and one that is no longer configured."""
        (tmp_path / "audit.yaml").write_text(config.read_text())
        store = Store.open(tmp_path / "audit.sqlite", migrate=True)
        store.save(make_result(run="1", model="leaves", label="sick", findings=()))
        store.save(make_result(run="2", model="gone", label="sick", findings=()))
        store.close()
        return tmp_path / "audit.yaml"

    @pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
    def test_status(self, run, config, form, read):
        """Configured models only; the document is the result's own."""
        (result,) = read(run("status", config, "--output", form).stdout)
        assert (result["model"], result["run"]) == ("leaves", "1")

    def test_status_as_a_table(self, run, config):
        """Plain text where there is no terminal, wide enough for the longest line."""
        answer = run("status", config)
        assert "leaves" in answer.stdout
        assert "\x1b" not in answer.stdout
        assert answer.stderr == ""

    def test_report(self, run, config):
        """The files are named on stdout; without a bank the pictures are missing, not the report."""
        answer = run("report", config, "--out", config.parent / "out")
        assert answer.exit_code == 0
        assert [line.rsplit("/")[-1] for line in answer.stdout.splitlines()] == ["report.json", "model_card.md", "report.html"]
        assert not (config.parent / "bank").exists()

    def test_edits_are_confirmed_by_a_person(self, run, config, tmp_path):
        """The form names pictures of the bank; what is filled in is counted, kept, and there the next time."""
        items = tuple(ToConfirm(picture=f"{at}" * 4, node="a", question="Is it?", expected=True) for at in range(4))
        store = Store.open(tmp_path / "audit.sqlite", migrate=True)
        store.save(make_result(run="3", model="leaves", label="sick", findings=(), diffex=tree(node(), to_confirm=items)))
        store.close()
        form = tmp_path / "form.csv"
        answer = run("concepts", "confirm", config, "--out", form)
        assert answer.exit_code == 0
        assert f"{tmp_path}/bank/images/00/0000.png,a,Is it?,\n" in form.read_text()
        form.write_text(form.read_text().replace("Is it?,\n", "Is it?,yes\n", 3))
        told = json.loads(run("concepts", "confirm", config, "--answers", form, "--output", "json").stdout)
        assert (told["edits"], told["answered"], told["right"], told["precision"]) == (4, 3, 3, 1.0)
        assert run("concepts", "confirm", config).stdout.count("Is it?,yes") == 3

    def test_there_may_be_nothing_to_confirm(self, run, config):
        answer = run("concepts", "confirm", config)
        assert answer.exit_code == 3
        assert "no accepted edit" in answer.stderr

    def test_an_unknown_run(self, run, config):
        answer = run("report", config, "--run", "77")
        assert (answer.exit_code, answer.stderr) == (3, "error: there is no run '77' in the store\n")


def test_status_before_the_first_run(run, config, tmp_path):
    (tmp_path / "audit.yaml").write_text(config.read_text())
    answer = run("status", tmp_path / "audit.yaml")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, "", "no run yet\n")
    assert run("report", tmp_path / "audit.yaml").exit_code == 3
    assert json.loads(run("status", tmp_path / "audit.yaml", "-o", "json").stdout) == []


def test_no_bank_to_verify(run, config):
    """Nothing is made by looking."""
    answer = run("bank", "verify", config)
    assert answer.exit_code == 3
    assert "build it first" in answer.stderr
    assert not (config.parent / "bank").exists()


def test_a_doctor_of_nothing(run, config, tmp_path):
    """Every part that is missing is named with its cure, nothing is made, and the exit code is 3."""
    (tmp_path / "audit.yaml").write_text(config.read_text().replace("triton:8001", "127.0.0.1:9"))
    answer = run("doctor", tmp_path / "audit.yaml", "-o", "json")
    found = {check["subject"]: check for check in json.loads(answer.stdout)}
    assert answer.exit_code == 3
    assert [name for name, check in found.items() if check["ok"]] == ["bank", "store"]
    assert "give a diffusers directory" in found["generator"]["detail"]
    assert [path.name for path in tmp_path.iterdir()] == ["audit.yaml"]


def test_heavy_libraries_stay_out():
    """Looking at a configuration or a store loads no engine."""
    code = "import sys, audit_plugin.cli; print({'torch', 'diffusers', 'onnxruntime', 'audit_plugin.wiring'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_package_is_the_command() -> None:
    from audit_plugin import __main__ as module
    from audit_plugin.cli import main

    assert module.main is main
