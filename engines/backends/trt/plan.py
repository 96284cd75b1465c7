"""What lies beside a plan: for which release and device it was compiled, and how.  Asked before the vendor is given the plan."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engines.backends.trt.device import Facts
from engines.backends.trt.request import BuildOptions
from engines.backends.trt.vendor import Vendor, release
from engines.errors import ArtifactError
from engines.spec import EngineSpec

PLAN = "plan"
ABOUT = "plan.json"

AMPERE = 8


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """About one plan."""

    fingerprint: str
    """Of the spec."""
    graph: str
    """Key of the graph in the cache that it was compiled from."""
    version: str
    """Of TensorRT."""
    device: str
    capability: str
    portable: str | None
    refit: bool
    strip: bool

    def misfit(self, spec: EngineSpec, vendor: Vendor, here: Facts) -> str | None:
        """Why the plan is not the spec's network, or why this release or this device cannot run it, or None."""
        if self.fingerprint != spec.fingerprint:
            return f"it is another network than {spec.name!r}, or the same at other sizes"
        if self.portable is None:
            if vendor.lean:
                return f"{vendor.module} loads portable plans only, and this is none"
            if self.version != vendor.version:
                return f"it was compiled by TensorRT {self.version}, this is {vendor.version}"
        elif release(self.version)[0] > vendor.release[0]:
            return f"it was compiled by TensorRT {self.version}, which {vendor.version} cannot read, portable or not"
        return self._wrong_device(here)

    def _wrong_device(self, here: Facts) -> str | None:
        own = here.note()["capability"]
        if self.portable == "ampere_plus":
            return None if here.capability[0] >= AMPERE else f"it needs an Ampere GPU or a newer one, this is {here.name}"
        if self.capability != own:
            return f"it was compiled for compute capability {self.capability}, this device has {own}"
        if self.portable is None and self.device != here.name:
            return f"it was compiled for {self.device}, this is {here.name}"
        return None


def plan_facts(spec: EngineSpec, options: BuildOptions, vendor: Vendor, here: Facts, graph: str) -> PlanFacts:
    """About a plan that is built here."""
    return PlanFacts(
        fingerprint=spec.fingerprint,
        graph=graph,
        version=vendor.version,
        device=here.name,
        capability=here.note()["capability"],
        portable=options.portable,
        refit=options.refit,
        strip=options.strip,
    )


def write_facts(facts: PlanFacts, folder: Path) -> None:
    """Beside the plan."""
    (folder / ABOUT).write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")


def read_facts(folder: Path) -> PlanFacts:
    """As they were written.  Raises ArtifactError."""
    try:
        value: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return PlanFacts(**{field.name: value[field.name] for field in fields(PlanFacts)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no compiled plan ({error}); build it again") from error
