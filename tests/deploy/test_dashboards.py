"""The dashboards that are shipped ask for what is exported, turn red where alerts fire, and lead to the runbooks."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.alerts.conditions import Compare
from audit_plugin.dashboards.files import config_maps, dashboards, write
from audit_plugin.dashboards.panels import SOURCE, Line, alarming
from audit_plugin.dashboards.queries import BUILT_IN, TARGET, bound, exported, series
from audit_plugin.demo.server import free_ports
from audit_plugin.metrics.names import SPECS

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS = {name: json.loads(text) for name, text in dashboards().items()}
LABELS = {spec.name: {*spec.labels, *TARGET} for spec in SPECS} | {name: {*labels, *TARGET} for name, labels in BUILT_IN.items()}
VALUES = {"state": "succeeded_with_findings", "model": "ham"}


def panels(board):
    """All panels of a board, also those in folded rows."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def asked():
    """Every expression of every board: of panels, variables and annotations."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel.get("targets", []):
                yield name, panel["title"], target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield name, variable["name"], re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"]).group(1)
        for annotation in board["annotations"]["list"]:
            yield name, annotation["name"], annotation["expr"]


def places(value, key):
    """All values of a key anywhere in a document."""
    if isinstance(value, dict):
        yield from ([value[key]] if key in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from places(each, key)


@pytest.mark.parametrize("name", BOARDS)
def test_committed_dashboards_are_the_generated_ones(name):
    """Regenerate with `python -m audit_plugin.dashboards deploy/grafana`."""
    assert (GRAFANA / "dashboards" / name).read_text() == dashboards()[name]
    assert (GRAFANA / "configmaps.yaml").read_text() == config_maps()


def test_every_metric_and_label_is_exported():
    """Read loosely: selectors, groupings and legends, against the table of names."""
    for board, where, text in asked():
        bare = re.sub(r'"[^"]*"', "", text)
        for name, matchers in re.findall(r"([a-zA-Z_]\w*)\{([^}]*)\}", bare):
            assert set(re.findall(r"(\w+)=~?", matchers)) <= LABELS[name], (board, where, text)
        used = set(re.findall(r"audit_plugin_\w+|ALERTS|nv_\w+|scrape_\w+|\bup\b", bare))
        assert used, (board, where, text)
        assert used <= LABELS.keys(), (board, where, text)
        grouped = {label for group in re.findall(r"(?:by|on) \(([^)]*)\)", bare) for label in group.split(", ")}
        assert grouped <= set().union(*(LABELS[name] for name in used)), (board, where, text)


def test_what_is_not_exported_cannot_be_written():
    """Neither a metric, nor a label in a matcher, a grouping or a legend, nor a threshold without an alert."""
    with pytest.raises(KeyError):
        series("concept_importance")
    for wrong in (
        lambda: exported("rows", {"concept": "x"}),
        lambda: exported("rows").by("concept"),
        lambda: Line(query=exported("rows").by("model"), legend="{{task}}"),
        lambda: exported("rows").where(exported("target_up"), "model"),
        lambda: bound("rows"),
    ):
        with pytest.raises(ValueError, match=r"no (label|alert)"):
            wrong()


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_a_board_can_be_imported_anywhere(board):
    """Stable names, the data source is a variable, every variable that is used is declared, no two panels lie on each other."""
    assert all(source == SOURCE for source in places(board, "datasource"))
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "job", "model"} <= names
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all", "__data"}
    assert used <= names
    everything = list(panels(board))
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_boards_are_three_with_stable_names():
    """Links and bookmarks go by them."""
    assert [board["uid"] for board in BOARDS.values()] == ["audit-plugin-fleet", "audit-plugin-model", "audit-plugin-health"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_every_panel_says_what_it_shows(board):
    """A description, a unit, a word for no data, links to the reports and to runbooks that are there."""
    for panel in panels(board):
        if panel["type"] in {"row", "text"}:
            continue
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"] == "no data"
        *books, report = [link["url"] for link in panel["links"]]
        assert report == "${service}/"
        assert all((GRAFANA.parent / "runbooks" / book.removeprefix("${runbooks}")).is_file() for book in books)


def test_every_alert_has_a_panel():
    """Whoever gets an alert finds what it is about."""
    linked = {
        link["title"].removeprefix("Runbook: ")
        for board in BOARDS.values()
        for panel in panels(board)
        for link in panel.get("links", [])
    }
    assert {alert.name for alert in ALERTS} <= linked


@pytest.mark.parametrize(
    "condition", [one for alert in ALERTS for one in alert.any_of if isinstance(one, Compare)], ids=lambda one: one.metric
)
def test_panels_turn_red_where_alerts_fire(condition):
    """The last colour begins at the alert's own bound, or ends there where small is bad."""
    steps = alarming(condition.metric).steps
    if condition == Compare(condition.metric, "==", 0):
        assert steps == (("red", None), ("green", 1))
    else:
        assert steps[-1] == ("red", condition.bound)


def test_intervals_are_bands():
    """The upper limit is filled down to the lower one, and both are queries of the same panel."""
    bands = [panel for panel in panels(BOARDS["model.json"]) if panel["type"] != "row" and "fillBelowTo" in json.dumps(panel)]
    assert {panel["repeat"] for panel in bands} == {"concept", "group", "node", "method"}
    for panel in bands:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert legends[:3] == ["low", "high", "estimate"]
        assert legends[-1] == "samples"


def test_config_maps_carry_the_boards_to_the_sidecar(tmp_path):
    """With its label, and small enough for `kubectl apply`."""
    write(tmp_path, "https://wiki.example/", "https://audits.example")
    maps = list(yaml.safe_load_all((tmp_path / "configmaps.yaml").read_text()))
    assert [one["metadata"]["labels"]["grafana_dashboard"] for one in maps] == ["1"] * 3
    for one, (name, text) in zip(maps, dashboards("https://wiki.example/", "https://audits.example").items(), strict=True):
        assert json.loads(one["data"][f"audit-plugin-{name}"]) == json.loads(text)
        assert len(json.dumps(one)) < 200_000
        assert "https://wiki.example/" in text
        assert "https://audits.example" in text


def exposition(now):
    """Every metric with the value 1, timestamps of ten days ago and intervals of an hour; what Prometheus and Triton add; a minute of it."""
    added = {"up": (), "scrape_duration_seconds": (), "scrape_samples_scraped": (), "nv_inference_count": ("model", "version")}
    for name, own in [*((spec.name, spec.labels) for spec in SPECS), *added.items()]:
        target = {"job": "audit_plugin", "instance": "a:18877"} | {label: VALUES.get(label, "x") for label in own}
        labels = ",".join(f'{label}="{value}"' for label, value in target.items())
        value = now - 864_000 if "timestamp" in name else 3600 if "interval_seconds" in name else 1
        for age in (60, 30, 0):
            yield f"{name}{{{labels}}} {value} {now - age}"
    yield "# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Address of a Prometheus that has these samples; it scrapes nothing."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples").write_text("\n".join(exposition(int(time.time()))))
    (folder / "prometheus.yml").write_text("{}")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "samples", folder / "data"],
        check=True,
        capture_output=True,
    )
    (port,) = free_ports(1)
    places = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command = ["prometheus", *places, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not answers(f"{url}/-/ready"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(url):
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def query(url, text):
    """An instant query; variables that may hold several values hold all."""
    text = re.sub(r'=~"\$\w+"', '=~".*"', text)
    text = re.sub(r'="\$(\w+)"', lambda found: f'="{VALUES.get(found[1], "x")}"', text).replace("$__rate_interval", "2m")
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': text})}", timeout=5) as answer:
        return json.load(answer)["data"]["result"]


def test_every_query_finds_what_the_service_exports(prometheus):
    """Asked of a real Prometheus that has every metric of the table: no panel is empty for a wrong name, label or join."""
    assert query(prometheus, "audit_plugin_nothing") == []
    assert [text for text in sorted({text for _, _, text in asked()}) if not query(prometheus, text)] == []
