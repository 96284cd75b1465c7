"""Students that are kept: one file with their weights and what their tests found, written all or nothing and checked before it is used.

What taught them is not kept: it is pictures by the thousand, and needed only where they are taught again, for which it is made again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import structlog
import torch

from audit_plugin.target.gradients.student import Student, Transfer, new_student
from audit_plugin.target.guidance import StudentOptions

FORMAT = "students-1"
"""Changed whenever students come to be made otherwise."""
LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept:
    """Students, and how they did in their tests."""

    students: tuple[Student, ...]
    found: Transfer
    again: bool
    """Whether they were taught again after flips of theirs did not transfer."""


@dataclass(frozen=True, kw_only=True)
class StudentShelf:
    """Where the students of one model version are."""

    file: Path
    key: str
    """Of model version, options, what taught them and who drew it: changes whenever other students would be taught."""

    def save(self, kept: Kept) -> None:
        """Readers see the file whole or not at all.  A disk that is full costs nothing but teaching again, and a warning."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        weights = {
            f"{at}.{name}": value.contiguous() for at, one in enumerate(kept.students) for name, value in one.state_dict().items()
        }
        notes = {
            "format": FORMAT,
            "key": self.key,
            "weights": _digest(weights),
            "found": json.dumps(asdict(kept.found)),
            "again": json.dumps(kept.again),
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self.file.parent, prefix=self.file.name, suffix=".partial", delete=False) as open_file:
                partial = Path(open_file.name)
            try:
                save_file(weights, partial, metadata=notes)
                partial.replace(self.file)
            finally:
                partial.unlink(missing_ok=True)
        except (SafetensorError, OSError) as error:
            LOG.warning("students of the model were not kept", file=str(self.file), why=str(error))

    def load(self, classes: int, options: StudentOptions) -> Kept | None:
        """What was saved under the same key; None, with a warning where there is a file, for anything else."""
        from safetensors import SafetensorError, safe_open

        if not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as file:
                notes = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return self._read(notes, weights, classes, options)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            LOG.warning("kept students of the model cannot be used and are taught anew", file=str(self.file), why=why)
            return None

    def _read(self, notes: Mapping[str, str], weights: Mapping[str, torch.Tensor], classes: int, options: StudentOptions) -> Kept:
        if notes.get("format") != FORMAT or notes.get("key") != self.key:
            raise ValueError("it is of another model version, other pictures or other options")
        if notes["weights"] != _digest(weights):
            raise ValueError("its weights are not those that were written")
        students = []
        for at in range(options.students):
            with torch.random.fork_rng(devices=[]):  # weights that are thrown away take no random numbers from anybody
                student = new_student(classes, options, at)
            student.load_state_dict({name: weights[f"{at}.{name}"] for name in student.state_dict()})
            students.append(student.eval().requires_grad_(requires_grad=False))
        return Kept(students=tuple(students), found=Transfer(**json.loads(notes["found"])), again=bool(json.loads(notes["again"])))


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Of names and values; the file's format has no check of its own."""
    told = hashlib.sha256()
    for name in sorted(weights):
        told.update(name.encode() + weights[name].numpy().tobytes())
    return told.hexdigest()
