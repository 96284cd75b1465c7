"""Images and compose file, read as text: what they copy and mount is there, names and ports agree, nobody is root.  Nothing is run."""

import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from audit_plugin.config import load, options_of, overridden
from audit_plugin.service_options import DEFAULT_PORT, DEFAULT_WEB_PORT, ServeOptions

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile*"))
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def steps(path):
    """(instruction, argument) of a Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    return [tuple(line.split(maxsplit=1)) for line in re.sub(r"\\\n", "", text).splitlines() if line.strip()]


def stages(path):
    """Stage -> its steps, those of the stages of the same file that it starts from before its own."""
    found, name = {}, ""
    for instruction, argument in steps(path):
        if instruction == "FROM":
            start, _, name = argument.split()
            found[name] = list(found.get(start, []))
        if name:
            found[name].append((instruction, argument))
    return found


def mounted(service):
    """(source, place) of what a service mounts from this repository."""
    for volume in SERVICES[service].get("volumes", []):
        source, place, *_ = volume.rsplit(":", 2) if volume.endswith(":ro") else volume.rsplit(":", 1)
        if source.startswith("."):
            yield (DEPLOY / "compose" / source).resolve(), place


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_nobody_from_a_pinned_base(path):
    """A numbered user, a tag that is no moving target and may be pinned further, a health check that asks for liveness."""
    base = dict(argument.split("=", 1) for kind, argument in steps(path) if kind == "ARG" and "=" in argument)["BASE"]
    assert re.fullmatch(r"docker\.io/library/python:3\.1[12]-[\w-]+", base)
    for name, own in stages(path).items():
        assert ("FROM", "${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}") in [(kind, text.split(" AS ")[0]) for kind, text in own]
        if name.startswith("install"):
            continue
        kinds = dict(own)
        assert kinds["USER"] == "10001:10001"
        assert "127.0.0.1:18877/livez" in kinds["HEALTHCHECK"]
        assert kinds["EXPOSE"] == f"{DEFAULT_PORT} {DEFAULT_WEB_PORT}"
        assert kinds["CMD"] == '["serve", "/etc/audit-plugin/audit.yaml"]'


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_copy_what_is_there_and_let_through(path):
    """Every source exists, and `.dockerignore` keeps all else, secrets with it, from the builder."""
    passed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    copied = [argument for kind, argument in steps(path) if kind == "COPY" and not argument.startswith("--from")]
    sources = {source for argument in copied for source in argument.split()[:-1]}
    assert sources <= set(passed)
    assert all((ROOT / source).exists() for source in passed)
    assert "ADD" not in dict(steps(path))
    assert not re.search(r"(?i)password|secret|token", path.read_text())


def test_the_wheel_finds_what_it_is_built_from():
    """Licence, read-me and packages that pyproject.toml names are copied by each image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    for path in DOCKERFILES:
        copied = " ".join(argument for kind, argument in steps(path) if kind == "COPY").split()
        assert wanted <= set(copied)


def test_only_the_images_that_draw_have_torch():
    """The default target takes the base requirements alone; extras that are named exist."""
    docker, gpu = DEPLOY / "docker" / "Dockerfile", DEPLOY / "docker" / "Dockerfile.gpu"
    made = {name: " ".join(text for _, text in own) for name, own in stages(docker).items()}
    assert list(made)[-1] == "light"
    assert "--from=install /opt" in made["light"]
    assert "torch" not in made["install"]
    assert "--from=install-cpu /opt" in made["cpu"]
    assert "torch" in made["install-cpu"]
    assert {"cpu", "gpu", "tensorrt"} <= EXTRAS.keys()
    assert ("ARG", "EXTRAS=gpu") in steps(gpu)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_environment_of_images_is_understood(path, tmp_path):
    """The variables set keys that the configuration has."""
    settings = re.findall(r"(AUDIT_PLUGIN__\w+)=(\S+)", path.read_text())
    table = "file,label\na.png,x\nb.png,y\n"
    (tmp_path / "labels.csv").write_text(table)
    (tmp_path / "audit.yaml").write_text(
        "{version: 1, audit: a, source: {images: ., table: labels.csv, image_column: file, label_columns: [label]}, diffex: {},\n"
        "models: [{model: m, label: label}]}"
    )
    assert load(tmp_path / "audit.yaml", dict(settings)).config.serve.host == "0.0.0.0"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path):
    """Where it is installed."""
    tool = shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([tool, "--no-color", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_what_compose_mounts_is_there(service):
    """Files and folders of this repository, read-only, volumes that are declared, health checks for all but the image that has its own."""
    for source, _ in mounted(service):
        assert source.exists(), source
        assert source.is_relative_to(DEPLOY)
    named = [volume.split(":")[0] for volume in SERVICES[service].get("volumes", []) if re.match(r"\w+:", volume)]
    assert set(named) <= COMPOSE["volumes"].keys()
    assert "healthcheck" in SERVICES[service] or service == "audit-plugin"
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))
    image = SERVICES[service]["image"]
    assert not image.endswith(("latest}", "latest"))
    assert ":" in image.split(":-")[1]


def test_compose_builds_a_target_of_the_dockerfile():
    """Context, file and stage."""
    build = SERVICES["audit-plugin"]["build"]
    assert (DEPLOY / "compose" / build["context"]).resolve() == ROOT
    assert re.search(r":-(\w+)", build["target"])[1] in stages(ROOT / build["dockerfile"])
    changed = overridden({}, SERVICES["audit-plugin"]["environment"])
    assert options_of(ServeOptions, changed["serve"], "serve").web_host == "0.0.0.0"
    volumes = [re.sub(r"\$\{.*?\}", "", volume).split(":") for volume in SERVICES["audit-plugin"]["volumes"]]
    assert changed["serve"]["tokens"] in {f"{place}/tokens" for _, place, *_ in volumes}


def test_the_auditor_is_confined():
    """Read-only root, no capabilities, no way to more."""
    service = SERVICES["audit-plugin"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_prometheus_scrapes_services_of_compose_on_their_ports():
    """And sends to the Alertmanager there; limits and rules are those of the example that is tested with promtool."""
    here, example = (yaml.safe_load((DEPLOY / folder / "prometheus.yml").read_text()) for folder in ("compose", "prometheus"))
    targets = [target for job in here["scrape_configs"] for static in job["static_configs"] for target in static["targets"]]
    targets += here["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert targets == [f"audit-plugin:{DEFAULT_PORT}", "triton:8002", "alertmanager:9093"]
    assert {target.split(":")[0] for target in targets} <= SERVICES.keys()
    differs = {"static_configs": None}
    assert here["scrape_configs"][0] | differs == example["scrape_configs"][0] | differs
    places = {place: source for source, place in mounted("prometheus")}
    assert [f"/etc/prometheus/{name}" in places for name in here["rule_files"]] == [True]


def test_grafana_is_provisioned_with_this_prometheus_and_these_boards():
    """The provider's path is where compose mounts the dashboards; the source's address is the service."""
    places = {place: source for source, place in mounted("grafana")}
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "audit-plugin.yml").read_text())["providers"]
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    boards = places[provider["options"]["path"]]
    assert {path.name for path in boards.iterdir()} == {"fleet.json", "model.json", "health.json"}
    assert source["url"] == "http://prometheus:9090"
    assert any(fnmatch(port, "*:9090") for port in SERVICES["prometheus"]["ports"])


def test_promtool_accepts_the_compose_configuration(tmp_path):
    """With its rules beside it, as they are mounted."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for source, place in mounted("prometheus"):
        shutil.copy(source, tmp_path / Path(place).name)
    done = subprocess.run([tool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
