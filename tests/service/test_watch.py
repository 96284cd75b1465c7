"""Looks at the server that fall together with the end of an audit."""

import io
from types import SimpleNamespace

from audit_plugin.service.backend import Seen
from audit_plugin.service.logs import json_logger
from audit_plugin.service.watch import Watch


def test_an_audit_that_ends_during_a_look_is_not_asked_for_again():
    """Its result may not be among those that were read, and the job is over a moment later: the next look decides."""
    asked, read = [], []

    def last_runs():
        read.append("without a result")
        return ()

    worker = SimpleNamespace(
        health=SimpleNamespace(leader=True),
        going=lambda _: None if read else "the audit that ends as soon as results were read",
        ask=lambda **what: (asked.append(what), (SimpleNamespace(id="job"), True))[1],
    )
    backend = SimpleNamespace(audit="a", store=SimpleNamespace(last_runs=last_runs))
    watch = Watch(backend, worker, json_logger(io.StringIO()), seconds=1e9, trigger=True)
    seen = [Seen(model="ham", label="lesion", up=True, detail="", version="7", config_hash="")]
    watch._ask_for(seen)
    assert (asked, read) == ([], ["without a result"])
    watch._ask_for(seen)
    assert [what["model"] for what in asked] == ["ham"]
