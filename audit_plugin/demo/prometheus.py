"""A real Prometheus beside the demonstration: the shipped rules, one scrape a second, alerts read from its API.

Without one on PATH the same thresholds are evaluated by :mod:`audit_plugin.alerts.evaluate`, and the outcome says so.
"""

import contextlib
import datetime as dt
import http.client
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from audit_plugin.alerts.evaluate import firing
from audit_plugin.alerts.rules import rules_file
from audit_plugin.core.errors import AuditError
from audit_plugin.demo.child import bound_to_parent, end_politely
from audit_plugin.demo.server import HOST, free_ports
from audit_plugin.metrics.sample import Sample

BINARY = "prometheus"
LOCALLY = "the service's own evaluation of the same thresholds"
_READY_SECONDS = 30.0
_EVALUATED_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_PAGES = ("/alerts", "/classic/alerts")


class PrometheusError(AuditError):
    """The Prometheus beside the demonstration did not do its work."""


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Which alerts fire, and who says so."""

    firing: tuple[Mapping[str, str], ...]
    """Labels of each: ``alert``, ``model``, ``concept``, ``severity`` …"""
    evaluated_by: str


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    @property
    def version(self) -> str:
        """As it says itself."""
        return str(self._ask("/api/v1/status/buildinfo")["version"])

    @property
    def page(self) -> str:
        """Where people look at alerts: some packages come with the classic pages alone."""
        found = next((path for path in _PAGES if _get(self.url, path)[0] == http.HTTPStatus.OK), _PAGES[0])
        return f"{self.url}{found}"

    def alerts(self) -> Alerts:
        """What fires, once the service was scraped and every rule evaluated after that.  Raises PrometheusError if that never comes."""
        deadline = time.monotonic() + _EVALUATED_SECONDS
        while not self._evaluated():
            if time.monotonic() > deadline:
                raise PrometheusError(f"Prometheus at {self.url} did not evaluate the rules within {_EVALUATED_SECONDS:g} s")
            time.sleep(_PAUSE_SECONDS)
        found = [alert["labels"] for alert in self._ask("/api/v1/alerts")["alerts"] if alert["state"] == "firing"]
        return Alerts(firing=_said(found), evaluated_by=f"Prometheus {self.version}")

    def _evaluated(self) -> bool:
        targets = self._ask("/api/v1/targets")["activeTargets"]
        groups = self._ask("/api/v1/rules")["groups"]
        if not targets or not groups or any(target["health"] != "up" for target in targets):
            return False
        # a scrape is told by its start; on a busy machine rules may be evaluated before its samples are there
        scraped = max(_moment(each["lastScrape"]) + dt.timedelta(seconds=each["lastScrapeDuration"]) for each in targets)
        return all(_moment(group["lastEvaluation"]) > scraped for group in groups)

    def _ask(self, path: str) -> Any:
        status, body = _get(self.url, path)
        if status != http.HTTPStatus.OK:
            raise PrometheusError(f"Prometheus at {self.url} answered {status} to {path}")
        return json.loads(body)["data"]


def locally(samples: Sequence[Sample]) -> Alerts:
    """The same thresholds on the samples of one scrape; no waiting times, no history."""
    found = [{"alertname": one.name, "severity": one.severity, **one.labels} for one in firing(samples, now=time.time())]
    return Alerts(firing=_said(found), evaluated_by=LOCALLY)


def installed() -> bool:
    """Whether there is a Prometheus to run."""
    return shutil.which(BINARY) is not None


@contextmanager
def scraping(service_url: str, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus on the service's metrics with the shipped rules; its data and log lie in ``directory``."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "rules.yml").write_text(rules_file(), encoding="utf-8")
    (directory / "prometheus.yml").write_text(_configuration(urlsplit(service_url).netloc), encoding="utf-8")
    url = f"http://{HOST}:{free_ports(1)[0]}"
    command = [
        BINARY,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={urlsplit(url).netloc}",
        "--log.level=warn",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            bound_to_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(process, url, directory / "prometheus.log")
        yield Prometheus(url=url)
    finally:
        end_politely(process, (signal.SIGTERM,), patience_seconds=10)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _get(url, "/-/ready")[0] == http.HTTPStatus.OK:
                return
        time.sleep(_PAUSE_SECONDS)
    how = "was not ready in time" if process.poll() is None else f"ended with exit code {process.returncode}"
    raise PrometheusError(f"Prometheus {how}; its log is {log}")


def _configuration(target: str) -> str:
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "audit_plugin", "static_configs": [{"targets": [target]}]}],
        },
        sort_keys=False,
    )


def _said(found: Sequence[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Alert name first; what Prometheus adds about the scrape is left out."""
    kept = [
        {"alert": labels["alertname"], **{k: v for k, v in labels.items() if k not in {"alertname", "job", "instance"}}}
        for labels in found
    ]
    return tuple(
        sorted(
            kept, key=lambda labels: (labels["alert"], labels.get("model", ""), labels.get("concept", ""), labels.get("node", ""))
        )
    )


def _get(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _moment(text: str) -> dt.datetime:
    """RFC 3339 with nanoseconds, as Go writes it."""
    return dt.datetime.fromisoformat(text)
