"""What the service is told of the world: the store, how to audit, and how to look at the audited servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from audit_plugin.core.errors import AuditError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.samples import Samples, stored_samples
from audit_plugin.store.store import Store

Attempts = tuple[Sequence[AuditResult], Sequence[AuditError]]
"""What came of a run: results, and errors of the models that have none."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A configured model and the column it is judged by."""

    model: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An audited model as its server showed it a moment ago."""

    model: str
    label: str
    up: bool
    """Whether server and model answered."""
    detail: str
    """Why not, in words."""
    version: str = ""
    config_hash: str = ""
    """Of the model's configuration on the server."""


def _nothing(_model: str, _progress: Progress) -> Attempts:
    return (), ()


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The callables come from wiring; the service itself knows neither engines nor servers."""

    store: Store
    audit: str
    """Name of the audit; one run of it is under way at a time, whichever process does it."""
    audited: tuple[Audited, ...]
    run: Callable[[str, Progress], Attempts] = _nothing
    """Audit one model, or all (empty), and commit the results; blocks.  StoppedError: it was told to stop."""
    render: Callable[[AuditResult], str] = lambda _: ""
    """One result as a self-contained HTML page."""
    picture: Callable[[str], bytes | None] = lambda _: None
    """SHA-256 -> file bytes of a generated or edited picture."""
    samples: Callable[[AuditResult], Samples] = stored_samples
    """All pictures before and after of a result, with what was said of them; may take seconds when it is first asked about one."""
    look: Callable[[], Sequence[Seen]] = tuple
    """Ask the servers; may take as long as their deadlines."""
    health: Callable[[], ProcessHealth] = ProcessHealth
    """What the configuration and the load guards say; called at every scrape."""
    halt: Callable[[], object] = lambda: None
    """Let no further request to a server through."""
    go_on: Callable[[], object] = lambda: None
    """Let them through again."""
    routers: tuple[APIRouter, ...] = ()
    """Further routes of the web port."""
    bounded: frozenset[str] = frozenset()
    """Paths among them that bound the bodies of requests themselves."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the audited models, each once."""
        return tuple(dict.fromkeys(one.model for one in self.audited))
