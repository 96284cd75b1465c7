"""A service over a store of its own, with auditing that tests script."""

import io
import time
from contextlib import contextmanager

import httpx

from audit_plugin.core.errors import StoppedError
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.service.app import running
from audit_plugin.service.backend import Audited, Backend
from audit_plugin.service.logs import json_logger
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.records import new_run_id
from audit_plugin.store.store import Store
from tests.findings.examples import result

HAM = (Audited(model="ham", label="lesion"),)


def until(true, seconds=10.0):
    """Wait for another thread, and fail when it does not come."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


class Audits:
    """Stands for auditing: what a run does and how often it was begun."""

    def __init__(self, store, *, steps=1, pause=0.0, errors=(), raises=(), version=lambda: "1"):
        self.version = version
        self.store, self.steps, self.pause, self.errors, self.raises = store, steps, pause, errors, list(raises)
        self.begun, self.going, self.most, self.stopped = [], 0, 0, 0

    def __call__(self, model, progress):
        self.begun.append(model)
        self.going += 1
        self.most = max(self.most, self.going)
        try:
            if self.raises:
                raise self.raises.pop(0)
            for step in range(self.steps):
                progress(step, self.steps, "score")
                time.sleep(self.pause)
            made = conclude(result(run=new_run_id(), version=self.version()), default_policy())
            self.store.save(made)
            return [made], list(self.errors)
        except StoppedError:
            self.stopped += 1
            raise
        finally:
            self.going -= 1


def backend(store, run=None, **more):
    """Of one model, judged by one column."""
    return Backend(
        **{"store": store, "audit": "tests", "audited": HAM, "render": lambda r: f"<p>{r.model}</p>", **more}
        | ({"run": run} if run else {})
    )


@contextmanager
def serving(world, log=None, **options):
    """The running service: client of its web port, client of its exporter."""
    chosen = ServeOptions(
        **{"port": 0, "web_port": 0, "interval_seconds": 1e9, "watch_seconds": 0.1, "grace_seconds": 5.0} | options
    )
    with (
        running(world, chosen, log=json_logger(log or io.StringIO())) as where,
        httpx.Client(base_url=where.web, timeout=20) as web,
        httpx.Client(base_url=where.metrics, timeout=20) as metrics,
    ):
        yield web, metrics


@contextmanager
def opened(folder):
    """A store on disk."""
    store = Store.open(folder / "audit.db", migrate=True)
    try:
        yield store
    finally:
        store.close()
