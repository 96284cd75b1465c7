"""A concept detector is one ONNX file with a softmax output per concept, and a JSON file beside it that names them.

``<path>.onnx`` takes ``input``, float32 ``(n, 3, size, size)``, RGB, in [0, 1], and answers ``concept/<name>`` ``(n, levels)`` for
every concept.  ``<path>.json`` is a :class:`DetectorCard`.  Detectors judge the generator and the edits, so they share nothing with
the audited model: neither network nor training (gate G5).
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept
from audit_plugin.perception.resizing import resize

INPUT = "input"
OUTPUT_PREFIX = "concept/"
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class DetectorCard:
    """What a detector file is: names to read its outputs by, and how well it read held-out rows."""

    kind: str
    """``compact_cnn`` (trained from nothing) or ``features`` (logistic heads on a given feature network)."""
    concepts: Mapping[str, tuple[str, ...]]
    """Concept -> levels, in the order of the output's columns."""
    size: int
    """Images are resized to ``size`` x ``size``."""
    sha256: str
    """Of the ONNX file."""
    auroc: Mapping[str, float | None] = field(default_factory=dict)
    """Concept -> AUROC on held-out rows (one against the rest, mean over levels); None when a level is missing there."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Seed, rows, epochs, temperatures: whatever tells how the file came to be."""
    schema_version: int = 1


def card_path(path: str | Path) -> Path:
    """Where the JSON file of a detector lies."""
    return Path(path).with_suffix(".json")


def write_card(path: str | Path, card: DetectorCard) -> None:
    """Write the card beside the ONNX file."""
    card_path(path).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")


def read_card(path: str | Path) -> DetectorCard:
    """The card of a detector file.  Raises DetectorError when it is missing or not a card."""
    where = card_path(path)
    try:
        fields = json.loads(where.read_text(encoding="utf-8"))
        fields["concepts"] = {name: tuple(levels) for name, levels in fields["concepts"].items()}
        return DetectorCard(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DetectorError(f"detector card {str(where)!r} cannot be read ({error}); train the detectors again") from error


class OnnxConceptDetector:
    """Reads concept levels from images with one ONNX file on the CPU."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Load ``path`` and its card; ``threads`` = 0 leaves the number to ONNX Runtime.

        Without ONNX Runtime the detector can be named but not asked: enough where its readings lie in the bank already.
        """
        self.card = read_card(path)
        self._session = _open(Path(path), self.card, threads)
        self._outputs = [OUTPUT_PREFIX + name for name in self.card.concepts]

    @property
    def fingerprint(self) -> str:
        """Identity of the answers: file, names and input size."""
        named = [f"{name}={'|'.join(levels)}" for name, levels in self.card.concepts.items()]
        return digest("detector", self.card.sha256, str(self.card.size), *named)

    def check(self, concepts: Sequence[Concept]) -> None:
        """Raise DetectorError unless every concept is read with exactly these levels in this order."""
        for concept in concepts:
            levels = self.card.concepts.get(concept.name)
            if levels != concept.levels:
                raise DetectorError(
                    f"detector reads {concept.name!r} as {levels}, the audit asks for {concept.levels}; train the detectors again"
                )

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Concept -> probabilities ``(n, levels)`` for images ``(n, 3, h, w)`` in [0, 1]."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise DetectorError(f"need images (n, 3, h, w), got {images.shape}")
        if self._session is None:
            raise DetectorError("reading concepts needs onnxruntime; install the 'cpu' or 'gpu' extra")
        answers = {name: np.zeros((len(images), len(levels))) for name, levels in self.card.concepts.items()}
        for start in range(0, len(images), _BATCH):
            batch = resize(np.asarray(images[start : start + _BATCH], np.float32), self.card.size)
            outputs = self._session.run(self._outputs, {INPUT: np.ascontiguousarray(batch)})
            for name, output in zip(answers, outputs, strict=True):
                answers[name][start : start + len(batch)] = output
        return answers


def _open(path: Path, card: DetectorCard, threads: int) -> Any | None:
    """A session on the checked file; None without ONNX Runtime."""
    data = _checked(path, card)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise DetectorError(f"detector {str(path)!r} cannot be loaded: {error}") from error
    missing = {OUTPUT_PREFIX + name for name in card.concepts} - {output.name for output in session.get_outputs()}
    if missing:
        raise DetectorError(f"detector {str(path)!r} has no output {min(missing)!r}; its card belongs to another file")
    return session


def _checked(path: Path, card: DetectorCard) -> bytes:
    """The file's bytes, if they are those that the card describes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DetectorError(f"detector {str(path)!r} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise DetectorError(
            f"detector {str(path)!r} is not the file its card describes; train the detectors again, or restore both files"
        )
    return data
