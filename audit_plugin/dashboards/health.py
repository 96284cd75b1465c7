"""The board of the plug-in itself: does it run, does it reach what it audits, what does it cost."""

from audit_plugin.dashboards.board import Board, Row, Variable
from audit_plugin.dashboards.panels import BAD, GOOD, WATCH, Column, Line, Look, Panel, alarming, graph, stat, table, timeline
from audit_plugin.dashboards.queries import JOB, Query, ago, exported, rate, series, until

_HERE = {"instance": "~$instance"}
_AUDIT = ("model", "version", "task")
_NETWORK = (*_AUDIT, "engine", "backend", "precision")
_SECONDS = Look(unit="s")
_COUNT = Look(decimals=0)


def health() -> Board:
    """Rate, errors and duration of audits, the server they ask, the engines that draw."""
    return Board(
        uid="audit-plugin-health",
        title="Audits / Plug-in health",
        about="The audit service itself: runs, errors, durations, load on the audited server, engines.",
        variables=(
            Variable(name="job", label="Job", of=series("build_info"), several=True),
            Variable(name="instance", label="Instance", of=exported("build_info"), several=True),
            Variable(name="model", label="Model", of=exported("last_completion_timestamp_seconds"), several=True),
        ),
        rows=(
            Row(title="Now", panels=_now()),
            Row(title="Runs of audits", panels=_runs()),
            Row(title="The audited server", panels=_server()),
            Row(title="Audits", panels=_audits()),
            Row(title="Engines", panels=_engines()),
            Row(title="Capture", panels=_capture()),
        ),
    )


def _here(metric: str) -> Query:
    return exported(metric, _HERE).by("instance")


def _audited(metric: str, *labels: str) -> Query:
    return exported(metric, {"model": "~$model"}).by(*labels)


def _now() -> tuple[Panel, ...]:
    up = Look(steps=((BAD, None), (GOOD, 1)), words={0: ("down", BAD), 1: ("up", GOOD)})
    every = "{{instance}}"
    return (
        stat(
            "Scraped",
            series("up", JOB | _HERE).by("instance"),
            up,
            about="Whether Prometheus reaches it.",
            alerts=("AuditPluginAbsent",),
            legend=every,
        ),
        stat("Server reached", _here("target_up"), alarming("target_up"), alerts=("AuditPluginTargetDown",), legend=every),
        stat("Store readable", _here("store_up"), alarming("store_up"), alerts=("AuditPluginRunFailed",), legend=every),
        stat(
            "Configuration loaded",
            _here("config_last_reload_successful"),
            alarming("config_last_reload_successful"),
            alerts=("AuditPluginConfigReloadFailed",),
            legend=every,
        ),
        stat(
            "Last run failed",
            _here("last_round_failed"),
            alarming("last_round_failed"),
            alerts=("AuditPluginRunFailed",),
            legend=every,
        ),
        stat(
            "Next run in",
            until(_here("next_run_timestamp_seconds")),
            Look(unit="s", signed=True, decimals=0),
            alerts=("AuditPluginAuditStale",),
            legend=every,
        ),
    )


def _runs() -> tuple[Panel, ...]:
    counted = [
        Line(query=rate(exported(name, _HERE), "increase").by("instance"), legend=f"{said} {{{{instance}}}}")
        for name, said in (("attempts_total", "begun"), ("failures_total", "failed"), ("missed_runs_total", "missed"))
    ]
    spent = Line(query=_audited("last_duration_seconds", "model", "task"), legend="{{model}} {{task}}")
    version = Column(query=exported("build_info", _HERE).by("instance", "plugin_version"))
    loaded = Column(
        query=ago(_here("config_last_reload_success_timestamp_seconds")), title="configuration loaded, ago", look=_SECONDS
    )
    return (
        graph("Runs begun, failed, missed", counted, _COUNT, width=9, alerts=("AuditPluginRunFailed",)),
        graph("Duration of the last audit", (spent,), _SECONDS, width=9),
        table("Versions", (version, loaded), width=6),
        graph("Runs that wait", (Line(query=_here("runs_waiting"), legend="{{instance}}"),), _COUNT, width=8),
        graph(
            "Which process runs the audits",
            (Line(query=_here("leader"), legend="{{instance}}"),),
            _COUNT,
            width=8,
            about="1 in one of the replicas, 0 in those that would take over.",
        ),
        graph(
            "Requests refused, by reason",
            (Line(query=rate(exported("refused_total", _HERE), "increase").by("reason", how="sum"), legend="{{reason}}"),),
            _COUNT,
            width=8,
            about="Of pages and REST API; many without a token are somebody who guesses.",
        ),
    )


def _server() -> tuple[Panel, ...]:
    served = ("model", "version")
    asked = rate(exported("triton_requests_total", {"model": "~$model"})).by(*served, how="sum")
    share = asked / rate(series("nv_inference_count", {"model": "~$model"})).by(*served, how="sum")
    percent = Look(unit="percentunit", steps=((GOOD, None), (WATCH, 0.5)))
    aside = Look(steps=((GOOD, None), (WATCH, 1)), words={0: ("asks", GOOD), 1: ("steps aside", WATCH)})
    waited = [
        Line(query=rate(exported(f"load_{name}_seconds_total", _HERE)).by("instance"), legend=f"{said} {{{{instance}}}}")
        for name, said in (
            ("paused", "for queues to empty"),
            ("throttled", "for the budget"),
            ("yielded", "for others' turns"),
            ("closed", "for a window of time"),
        )
    ]
    return (
        graph("Pictures asked per second", (Line(query=asked, legend="{{model}} {{version}}"),), Look(unit="reqps")),
        graph(
            "Share of the server's inferences that audits cause",
            (Line(query=share, legend="{{model}} {{version}}"),),
            percent,
            about="Audit requests are in Triton's own series too; needs Triton's metrics in the same Prometheus.",
        ),
        stat(
            "Load guard",
            _here("load_paused"),
            aside,
            about="Audits step aside while requests wait on the server.",
            legend="{{instance}}",
        ),
        graph("Requests of audits that wait", waited, Look(decimals=2), about="Seconds of waiting per second."),
    )


def _audits() -> tuple[Panel, ...]:
    broken = Line(query=_audited("audit_broken", "model", "task"), legend="{{model}} {{task}}")
    missed = Line(query=_audited("control_missed", "model", "task"), legend="{{model}} {{task}}: missed")
    false = Line(query=_audited("control_false_alarm", "model", "task"), legend="{{model}} {{task}}: false alarm")
    dropped = Line(query=_audited("series_dropped", "model", "task"), legend="left out: {{model}} {{task}}")
    scraped = Line(query=series("scrape_samples_scraped", JOB | _HERE).by("instance"), legend="exported: {{instance}}")
    took = Line(query=series("scrape_duration_seconds", JOB | _HERE).by("instance"), legend="{{instance}}")
    return (
        timeline("Broken", (broken,), alarming("audit_broken"), alerts=("AuditPluginAuditBroken",)),
        timeline("Controls misjudged", (missed, false), alarming("control_missed"), alerts=("AuditPluginControlFailed",)),
        graph(
            "Series",
            (scraped, dropped),
            _COUNT,
            about="The service stops at 2,000 series and says how many it left out.",
            alerts=("AuditPluginSeriesDropped",),
        ),
        graph("Duration of a scrape", (took,), _SECONDS, about="Metrics are read from the store at every scrape."),
    )


def _engines() -> tuple[Panel, ...]:
    columns = (
        Column(query=_audited("engine_items", *_NETWORK), title="rows", look=_COUNT),
        Column(query=_audited("engine_padded_rows", *_NETWORK), title="padded rows", look=_COUNT),
        Column(query=_audited("engine_seconds", *_NETWORK), title="device time", look=_SECONDS),
        Column(query=_audited("engine_parity_error_ratio", *_NETWORK), title="parity error", look=Look(unit="sci")),
        Column(
            query=_audited("engine_fallbacks", *_NETWORK), title="backends refused", look=Look(steps=((GOOD, None), (WATCH, 1)))
        ),
        Column(query=_audited("engine_build_seconds", *_NETWORK), title="building", look=_SECONDS),
    )
    agrees = Line(query=_audited("engine_agreement_ratio", "model", "task"), legend="same class: {{model}} {{task}}")
    changed = Line(query=_audited("engine_score_change_ratio", "model", "task"), legend="change of scores: {{model}} {{task}}")
    return (
        table("Networks of the generator", columns, width=24, height=8),
        graph("Agreement with the reference", (agrees, changed), Look(unit="percentunit", decimals=2), width=8),
        graph(
            "Network evaluations of the last audit",
            (Line(query=_audited("unet_evaluations", "model", "task"), legend="{{model}} {{task}}"),),
            _COUNT,
            width=8,
        ),
        stat("Cache of engines", _here("engine_cache_bytes"), Look(unit="bytes"), legend="{{instance}}"),
        stat("Share of the device", _here("engine_share_ratio"), Look(unit="percentunit"), legend="{{instance}}"),
    )


def _capture() -> tuple[Panel, ...]:
    """Nothing where capture is off."""
    flow = [
        Line(query=rate(exported(name, _HERE)).by("instance"), legend=f"{said} {{{{instance}}}}")
        for name, said in (
            ("capture_events_total", "offered"),
            ("capture_sampled_total", "sampled"),
            ("capture_kept_total", "kept"),
        )
    ]
    lost = Line(query=rate(exported("capture_dropped_total", _HERE), "increase").by("reason", how="sum"), legend="{{reason}}")
    held = Line(query=exported("capture_images", {"model": "~$model"}).by("model"), legend="{{model}}")
    return (
        graph("Production events per second", flow, Look(unit="reqps")),
        graph(
            "Events refused and pictures lost, by reason",
            (lost,),
            _COUNT,
            about="Queue, disk and redaction are ours to mend; the other reasons are the senders'.",
            alerts=("AuditPluginCaptureDropping",),
        ),
        graph("Pictures in the captured samples", (held,), _COUNT),
    )
