"""What a bundle holds: the stored document byte for byte, what it was made under, the pictures it shows, and who did what to it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Any

from audit_plugin import __version__
from audit_plugin.core.pictured import cited
from audit_plugin.core.results import AuditResult
from audit_plugin.sources.images import is_marked_synthetic
from audit_plugin.store.records import Event
from audit_plugin.store.retention import Link

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Files of a bundle by name, and what had to be left out."""

    about: Mapping[str, Any]
    """Facts for the manifest."""
    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()


def evidence(
    result: AuditResult,
    document: str,
    *,
    report: Mapping[str, bytes],
    policy: str,
    policy_digest: str,
    events: Sequence[Event],
    before: Link | None,
    pictures: Callable[[str], bytes | None],
    with_pictures: bool = True,
) -> Contents:
    """The contents of a run's bundle.

    ``document`` is the stored one; ``report`` the files that the report writes, by name; ``policy`` the thresholds as JSON that the
    configuration names now, of ``policy_digest``; ``events`` those about this run, its model and its findings; ``before`` the run before.
    """
    shown, left_out = _shown(result, pictures) if with_pictures else ({}, ["pictures: left out on request"])
    origin = result.provenance
    if policy_digest != origin.policy_digest:
        left_out.append("policy.json: the policy has changed since the run; the findings in result.json name their thresholds")
    if not origin.config:
        left_out.append("config.yaml: the run did not store its configuration")
    files = {
        RESULT: document.encode(),
        **report,
        **({"config.yaml": origin.config.encode()} if origin.config else {}),
        **({"policy.json": policy.encode()} if policy_digest == origin.policy_digest else {}),
        "events.json": _json([{**asdict(event), "at": event.at.isoformat()} for event in events]),
        "versions.json": _json(_versions(result)),
        "sbom.json": _json(_sbom()),
        **shown,
    }
    about = {
        "run": result.run,
        "model": result.model,
        "version": result.version,
        "label": result.label,
        "state": result.state.value,
        "policy_digest": origin.policy_digest,
        "config_hash": origin.config_hash,
        "previous": None if before is None else asdict(before),
        "left_out": left_out,
    }
    return Contents(about=about, files=files, left_out=tuple(left_out))


def _shown(result: AuditResult, pictures: Callable[[str], bytes | None]) -> tuple[dict[str, bytes], list[str]]:
    """Pictures that the report shows; one that a machine has made and that does not say so in its own metadata stays behind."""
    found, left_out = dict[str, bytes](), list[str]()
    for sha, made in sorted(cited(result).items()):
        data = pictures(sha)
        if data is None:
            left_out.append(f"pictures/{sha}.png: it is no longer stored")
        elif made and not is_marked_synthetic(data):
            left_out.append(f"pictures/{sha}.png: it is generated and not marked so in its metadata")
        else:
            found[f"pictures/{sha}.png"] = data
    return found, left_out


def _versions(result: AuditResult) -> dict[str, object]:
    """What the run was made with, and what wrote this bundle."""
    origin = result.provenance
    return {
        "run": {
            "audit_plugin": origin.plugin_version,
            "packages": dict(origin.versions),
            "machine": origin.machine,
            "server": origin.server,
            "model_config_hash": origin.model_config_hash,
            "generator": origin.generator,
            "detector": origin.detector,
            "bank_digest": origin.bank_digest,
            "dataset_digest": origin.dataset_digest,
        },
        "bundle": {"audit_plugin": __version__},
    }


@cache
def _sbom() -> dict[str, object]:
    """Installed packages of the program that wrote the bundle, as CycloneDX."""
    every = {(one.metadata["Name"], one.version): one for one in distributions() if one.metadata["Name"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "audit-plugin", "version": __version__}},
        "components": [_component(every[key]) for key in sorted(every)],
    }


def _component(one: Distribution) -> dict[str, object]:
    name = one.metadata["Name"]
    facts: dict[str, object] = {"type": "library", "name": name, "version": one.version}
    facts["purl"] = f"pkg:pypi/{name.lower().replace('_', '-')}@{one.version}"
    if "License-Expression" in one.metadata:
        facts["licenses"] = [{"expression": one.metadata["License-Expression"]}]
    return facts


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
