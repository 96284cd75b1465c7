"""The demonstration: audit two planted classifiers on a real Triton server, end to end, by the parts that users run.

Everything lies below one directory.  A second run draws nothing and asks the server nothing, because bank and scores are still there.
"""

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TextIO

from rich.console import Console

from audit_plugin.config import Loaded, load
from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import DEFAULT_DIRECTORY, Kit, ensure_kit
from audit_plugin.demo.prometheus import LOCALLY, Alerts, Prometheus, PrometheusError, installed, locally, scraping
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.world import MODELS, World
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.report.table import verdict_table
from audit_plugin.report.tree import effect_words
from audit_plugin.service.app import Addresses, running
from audit_plugin.service.installed import backend_of
from audit_plugin.service.logs import json_logger
from audit_plugin.store.store import Store
from audit_plugin.target.health import check_target
from audit_plugin.wiring import Installation, open_store, process_health

ROWS = 150
_WIDTH = 110
Bars = Callable[[], AbstractContextManager[Progress]]
"""Makes a display of progress that lasts as long as the context."""


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What was found about one classifier."""

    verdicts: Mapping[str, str]
    importance: Mapping[str, tuple[float, float, float]]
    """Value, lower and upper limit of the 95 % interval."""
    true_importance: Mapping[str, float]
    """Measured with the renderer; empty where it was not."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """``summary.json``."""

    models: Mapping[str, ModelSummary]
    alerts_firing: Sequence[Mapping[str, str]]
    alerts_evaluated_by: str
    unet_evaluations: int
    """Spent by this run; 0 when the bank was complete."""
    classifier_queries: int
    """Pictures sent to the server by this run; 0 when all had been scored before."""
    images: int
    seconds: Mapping[str, float]


@dataclass
class _Clock:
    """How long each stage took."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 1)

    def all(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.monotonic() - self.started, 1)}


def run_demo(out: Path, *, rows: int = ROWS, keep: bool = False, bars: Bars) -> Summary:
    """Run the demonstration, print what was found, and write report and summary below ``out``.

    With ``keep`` server, metrics and Prometheus stay up until Ctrl-C.  Whatever happens, no child process is left behind.
    """
    console, clock, world = _console(), _Clock(), World(out=out.absolute())
    with _sigterm_as_interrupt(), ExitStack() as children:
        with bars() as progress:
            kit = _kit(progress, clock)
            loaded = _production(world, kit, rows, clock, children)
            store = children.enter_context(open_store(loaded))
            installation = Installation(loaded, progress)
            with clock.stage("audit"):
                results = installation.audit(store)
            with clock.stage("report"):
                files = installation.report(results, store)
            with clock.stage("alerts"):
                log = children.enter_context((world.out / "service.log").open("w", encoding="utf-8", buffering=1))
                service = children.enter_context(_service(loaded, store, log))
                alerts, prometheus = _alerts(service.metrics, world, loaded, store, children)
        summary = summarise(results, alerts, clock.all())
        (world.out / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n", encoding="utf-8")
        say(console, results, summary, files[-1], world)
        if keep:
            _hold(console, loaded, service, prometheus)
    return summary


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _kit(progress: Progress, clock: _Clock) -> Kit:
    what = "server kit (a first call downloads 330 MB)"
    progress(0, 1, what)
    with clock.stage("kit"):
        kit = ensure_kit(DEFAULT_DIRECTORY)
    progress(1, 1, what)
    return kit


def _production(world: World, kit: Kit, rows: int, clock: _Clock, children: ExitStack) -> Loaded:
    """What a user has before the audit: labelled pictures, models on a server, a configuration."""
    world.out.mkdir(parents=True, exist_ok=True)
    with clock.stage("scenes"):
        world.write_scenes(rows)
    with clock.stage("server"):
        log = world.out / "tritonserver.log"
        log.unlink(missing_ok=True)
        server = children.enter_context(TritonServer(world.repository(), kit=kit, log_file=log, load=MODELS))
    world.write_config(server.grpc_url)
    return load(world.config)


def _service(loaded: Loaded, store: Store, log: TextIO) -> AbstractContextManager[Addresses]:
    """The sidecar on free ports; its next audit is a day away."""
    return running(backend_of(loaded, store), replace(loaded.config.serve, port=0, web_port=0), log=json_logger(log))


def _silent(done: int, total: int, what: str) -> None:
    """No progress: nobody waits."""


def _health(loaded: Loaded) -> Callable[[], ProcessHealth]:
    return lambda: process_health(loaded, target_up=check_target(loaded.models[0].target)[0].ok)


def _audits(loaded: Loaded) -> frozenset[tuple[str, str]]:
    return frozenset((model.target.model, model.label) for model in loaded.models)


def _alerts(url: str, world: World, loaded: Loaded, store: Store, children: ExitStack) -> tuple[Alerts, Prometheus | None]:
    """Alerts by a real Prometheus where there is one, else by the same thresholds; never silently."""
    collector = AuditCollector(store=store, health=_health(loaded), audits=lambda: _audits(loaded))
    if not installed():
        return _marked(locally(collector.samples()), "no `prometheus` on PATH"), None
    try:
        prometheus = children.enter_context(scraping(url, world.out / "prometheus"))
        return prometheus.alerts(), prometheus
    except PrometheusError as error:
        return _marked(locally(collector.samples()), str(error)), None


def _marked(alerts: Alerts, why: str) -> Alerts:
    return Alerts(firing=alerts.firing, evaluated_by=f"{LOCALLY} ({why})")


def summarise(results: Sequence[AuditResult], alerts: Alerts, seconds: Mapping[str, float]) -> Summary:
    """The figures of one demonstration."""
    spent = [result.provenance for result in results]
    return Summary(
        models={result.model: _model_summary(result) for result in results},
        alerts_firing=alerts.firing,
        alerts_evaluated_by=alerts.evaluated_by,
        unet_evaluations=sum(one.unet_evaluations for one in spent),
        classifier_queries=sum(one.classifier_queries for one in spent),
        images=spent[0].images,
        seconds={
            "build": sum(one.seconds["build"] for one in spent),
            "score": round(sum(one.seconds["score"] for one in spent), 2),
            "estimate": round(sum(one.seconds["estimate"] for one in spent), 2),
            "tree": round(sum(one.seconds.get("tree", 0.0) for one in spent), 2),
            "flips": round(sum(one.seconds.get("counterfactuals", 0.0) for one in spent), 2),
            **seconds,
        },
    )


def _tree_lines(result: AuditResult) -> Iterator[str]:
    """The strongest nodes of the concept tree."""
    for effects in () if result.diffex is None else result.diffex.classes:
        found = sorted((node for node in effects.nodes if node.state is EffectState.EFFECT), key=lambda node: -node.bound)
        named = ", ".join(f"{node.node} {effect_words(node.effect)}" for node in found[:4])
        yield f"{result.model}: {named or 'nothing moves the score'}"


def _flip_lines(result: AuditResult) -> Iterator[str]:
    """How many pictures were flipped, and by how little."""
    if result.counterfactuals is not None and result.counterfactuals.figures.median_l1 is not None:
        found = result.counterfactuals.figures
        yield (
            f"{result.model}: {found.flips} of {found.images} pictures, median change {found.median_l1:.3f} of full scale, "
            f"{found.queries or 0:.0f} queries a picture"
        )


def _model_summary(result: AuditResult) -> ModelSummary:
    return ModelSummary(
        verdicts={one.concept: str(one.verdict) for one in result.concepts},
        importance={one.concept: _three(one.importance) for one in result.concepts},
        true_importance=dict(result.truth),
    )


def _three(estimate: Estimate) -> tuple[float, float, float]:
    return round(estimate.value, 4), round(estimate.low, 4), round(estimate.high, 4)


def say(console: Console, results: Sequence[AuditResult], summary: Summary, report: Path, world: World) -> None:
    """What a reader of the terminal needs."""
    console.print(verdict_table(results))
    console.print()
    for result in results:
        console.print(f"[bold]{result.model}[/bold]: {result.state}. {result.headline}", highlight=False, soft_wrap=True)
    if told := [line for result in results for line in _tree_lines(result)]:
        console.print("\nChanged in the real pictures, in log-odds of the positive class:", highlight=False, soft_wrap=True)
        for line in told:
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    if told := [line for result in results for line in _flip_lines(result)]:
        console.print("\nChanged until the server decides otherwise (pictures in the report):", highlight=False, soft_wrap=True)
        for line in told:
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(f"\nAlerts, by {summary.alerts_evaluated_by}:", highlight=False, soft_wrap=True)
    for line in _alert_lines(summary):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    drawn = (
        f"{summary.unet_evaluations} network evaluations for the bank of {summary.images} pictures and the edits of real ones"
        if summary.unet_evaluations
        else f"no network evaluation: the bank already had all {summary.images} pictures"
    )
    seconds = ", ".join(f"{name} {value:g} s" for name, value in summary.seconds.items() if value >= 0.05)
    console.print(f"\nspent    {drawn}; {summary.classifier_queries} classifier queries", highlight=False, soft_wrap=True)
    console.print(f"time     {seconds}", highlight=False, soft_wrap=True)
    console.print(f"report   {_shown(report)}\nsummary  {_shown(world.out / 'summary.json')}", highlight=False, soft_wrap=True)
    command = "audit-plugin" if shutil.which("audit-plugin") else _shown(Path(sys.executable).with_name("audit-plugin"))
    console.print(
        f"look on  {command} demo --keep --out {_shown(world.out)}   (leaves the server and the metrics running)\n"
        f"         {command} serve {_shown(world.config)}   (meanwhile, in another terminal)",
        highlight=False,
        soft_wrap=True,
    )


def _alert_lines(summary: Summary) -> Iterator[str]:
    for alert in summary.alerts_firing:
        about = ", ".join(f"{key} {alert[key]}" for key in ("model", "concept", "node", "metric", "severity") if key in alert)
        yield f"FIRING  {alert['alert']}: {about}"
    for model in MODELS:
        if not any(alert.get("model") == model for alert in summary.alerts_firing):
            yield f"silent  model {model}"


def _shown(path: Path) -> str:
    """Relative to where the command was given, if it is below."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _hold(console: Console, loaded: Loaded, service: Addresses, prometheus: Prometheus | None) -> None:
    """Leave everything running until Ctrl-C."""
    console.print(
        f"\nTriton   {loaded.models[0].target.url} (gRPC)\npages    {service.web}\nmetrics  {service.metrics}/metrics",
        highlight=False,
    )
    if prometheus:
        console.print(f"prometheus  {prometheus.page}", highlight=False)
    console.print("Ctrl-C stops them.", highlight=False)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the demonstration as Ctrl-C does, so that its children are ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
