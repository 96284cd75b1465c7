"""What a self-test leaves beside the bank: every outcome as it comes, so that one that is killed goes on, and the result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from audit_plugin.bank.pictures import storage
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.core.selftest_results import Part, SelfTest, from_json, to_json
from audit_plugin.report.document import write_whole
from audit_plugin.selftesting.planted import Cell, Outcome
from audit_plugin.store.scores import target_of

LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptOutcomes:
    """One JSON line an outcome; those under another key are of another bank, model, policy or way to compute."""

    file: Path
    key: str

    def known(self) -> Mapping[Cell, Outcome]:
        """A line that a kill has cut off is as one that is not there."""
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        found = (outcome for line in lines if (outcome := self._read(line)) is not None)
        return {outcome.cell: outcome for outcome in found}

    def begin(self) -> None:
        """Drop what has another key, and an end that was cut off."""
        lines = [self._line(outcome) for outcome in self.known().values()]
        with storage(str(self.file)):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.file, "".join(lines))

    def add(self, outcome: Outcome) -> None:
        """Written at once."""
        with storage(str(self.file)), self.file.open("a", encoding="utf-8") as file:
            file.write(self._line(outcome))

    def _line(self, outcome: Outcome) -> str:
        cell = outcome.cell
        told = {
            "key": self.key, "concept": cell.concept, "size": cell.size, "repeat": cell.repeat, "broken": outcome.broken,
            "seconds": outcome.seconds, "found": {name: [part.value for part in parts] for name, parts in outcome.found.items()},
        }  # fmt: skip
        return json.dumps(told) + "\n"

    def _read(self, line: str) -> Outcome | None:
        try:
            told = json.loads(line)
            if told["key"] != self.key:
                return None
            cell = Cell(concept=told["concept"], size=float(told["size"]), repeat=int(told["repeat"]))
            found = {name: tuple(Part(part) for part in parts) for name, parts in told["found"].items()}
            return Outcome(cell=cell, found=found, broken=bool(told["broken"]), seconds=float(told["seconds"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def place_of(bank: Path, model: str, version: str, label: str) -> Path:
    """Without its ending."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{model}-{version}-{label}")
    return bank / "selftests" / name


def keep(bank: Path, told: SelfTest) -> Path:
    """For reports and metrics of every audit of this version on this bank.  Raises AuditError where it cannot be written."""
    file = _file(place_of(bank, told.model, told.version, told.label))
    with storage(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, to_json(told))
    return file


def known_selftest(bank: Path, model: str, version: str, label: str) -> SelfTest | None:
    """What was measured of a model version; None where nobody did, or what was kept cannot be read any more."""
    file = _file(place_of(bank, model, version, label))
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, StoreError) as error:
        LOG.warning("a self-test cannot be read; `audit-plugin selftest` makes it again", file=str(file), why=str(error))
        return None


def holds(told: SelfTest | None, result: AuditResult) -> bool:
    """Whether a self-test speaks of this audit: same model version, bank, detector, policy, rows with labels and units, and way to judge."""
    origin = result.provenance
    if told is None or not told.judged_digest:
        return False
    return (told.target, told.label, told.bank_digest, told.detector, told.policy_digest, told.judged_digest) == (
        target_of(result),
        result.label,
        origin.bank_digest,
        origin.detector,
        origin.policy_digest,
        origin.judged_digest,
    )


def _file(place: Path) -> Path:
    return place.with_name(place.name + ".json")
