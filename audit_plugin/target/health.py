"""Can this target be audited?  Answers for ``audit-plugin doctor``, each a value rather than an exception."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from audit_plugin.core.errors import AuditError
from audit_plugin.target.contract import read_contract
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.wire import Wire


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question to the server and its answer."""

    check: str
    ok: bool
    detail: str


def check_target(options: TargetOptions) -> tuple[Check, ...]:
    """Ask server and model once, without waiting for a server that is away; the others follow only where the server is live."""
    checks: list[Check] = []
    try:
        with Wire(replace(options, retries=0)) as wire:
            for name, question in _QUESTIONS.items():
                checks.append(_answer(name, question, wire))
                if not checks[0].ok:
                    break
    except AuditError as error:
        checks.append(Check(check="connection", ok=False, detail=str(error)))
    return tuple(checks)


@dataclass(frozen=True, kw_only=True)
class Served:
    """An audited model as its server shows it."""

    up: bool
    """Whether server and model answered."""
    detail: str
    version: str = ""
    config_hash: str = ""
    labels: tuple[str, ...] = ()


def served(options: TargetOptions) -> Served:
    """Which version of a model is served now; asked once, without waiting for a server that is away."""
    try:
        with Wire(replace(options, retries=0)) as wire:
            info = read_contract(wire).info
    except AuditError as error:
        return Served(up=False, detail=str(error))
    detail = f"{info.server}, version {info.version}"
    return Served(up=True, detail=detail, version=info.version, config_hash=info.config_hash, labels=info.labels)


def _answer(name: str, question: Callable[[Wire], tuple[bool, str]], wire: Wire) -> Check:
    try:
        ok, detail = question(wire)
    except AuditError as error:
        ok, detail = False, str(error)
    return Check(check=name, ok=ok, detail=detail)


def _live(wire: Wire) -> tuple[bool, str]:
    return bool(wire.once("is_server_live")), wire.options.url


def _ready(wire: Wire) -> tuple[bool, str]:
    ok = bool(wire.once("is_server_ready"))
    return ok, "ready" if ok else "the server is live but not ready; look into its log for models that did not load"


def _model(wire: Wire) -> tuple[bool, str]:
    options = wire.options
    ok = bool(wire.once("is_model_ready", options.model, options.version or ""))
    name = f"{options.model}:{options.version or 'newest'}"
    return ok, f"{name} is ready" if ok else f"{name} is not ready; check `model` and `version` against the server's repository"


def _contract(wire: Wire) -> tuple[bool, str]:
    contract = read_contract(wire)
    source, output, info = contract.input, contract.output, contract.info
    facts = (
        f"{info.server}, version {info.version}, {source.name} {source.datatype} {list(source.shape)} -> "
        f"{output.name} {output.datatype} {list(output.shape)}, {len(info.labels)} classes, up to {contract.max_batch} images a request"
    )
    return True, "; ".join((facts, *info.notes))


_QUESTIONS = {"server live": _live, "server ready": _ready, "model ready": _model, "model fits": _contract}
