"""Everything that can go wrong, as one tree.

AuditError
├── ConfigError            the configuration cannot be used            (exit code 2)
├── SourceError            images, labels or concepts cannot be read   (exit code 2)
│   ├── ImageError         one file is not an image we accept
│   ├── TableError         a column or value is missing or unknown
│   └── CaptureError       an event of production traffic is refused
├── CaptionError           a concept set cannot be written as captions (exit code 2)
├── GeneratorError         the diffusion engine cannot draw            (exit code 3)
├── BankError              the probe bank cannot be read or written    (exit code 3)
│   ├── StorageFullError   no space left where images or tables go
│   └── DamagedPictureError  a stored picture is gone, or is not what was stored
├── TargetError            the audited server cannot answer            (exit code 3)
│   ├── TargetUnreachableError
│   ├── UnknownModelError
│   ├── TargetShapeError
│   ├── TargetOutputError
│   └── GradientError      no gradient, or stand-in, of the deployed model can be had
├── DetectorError          a concept detector cannot be built or used  (exit code 3)
└── StoreError             the result store cannot be read or written  (exit code 3)

Messages name the thing, what was wrong with it, and what to do.  A vendor's exception is mapped at the border with ``raise … from``.
"""

from collections.abc import Sequence


class AuditError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code = 3


class ConfigError(AuditError):
    """The configuration cannot be used as written."""

    exit_code = 2


class SourceError(AuditError):
    """The user's images, labels or concepts cannot be read."""

    exit_code = 2


class ImageError(SourceError):
    """One file is not an image that we accept."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"image {path!r}: {why}; replace or remove the file, or drop its row from the table")
        self.path = path


class TableError(SourceError):
    """A column or a value of the label table is missing or unknown."""


class CaptureError(SourceError):
    """An event of production traffic is refused; ``reason`` is one of ``core.capture.DROPS``, ``status`` the answer over HTTP."""

    def __init__(self, reason: str, why: str, *, status: int = 400) -> None:
        super().__init__(why)
        self.reason = reason
        self.status = status


class CaptionError(AuditError):
    """A concept set cannot be written as captions."""

    exit_code = 2


class GeneratorError(AuditError):
    """The diffusion engine cannot be loaded or cannot draw."""


class BankError(AuditError):
    """The probe bank cannot be read or written."""


class StorageFullError(BankError):
    """No space is left where images or tables are written; nothing already written is lost."""

    def __init__(self, where: str) -> None:
        super().__init__(f"no space left on device for {where}; free space and run the same command again: it resumes")
        self.where = where


class DamagedPictureError(BankError):
    """A stored picture is missing or corrupt; whoever can make it again does so."""

    def __init__(self, sha: str, where: str, damage: str) -> None:
        super().__init__(f"picture {sha} in {where} is {damage}; verify the bank's files and build again: it is redrawn")
        self.sha256 = sha


class TargetError(AuditError):
    """The audited server cannot answer."""


class TargetUnreachableError(TargetError):
    """No answer from the server within the deadline and its retries."""


class UnknownModelError(TargetError):
    """The server does not serve this model or version."""


class TargetShapeError(TargetError):
    """Preprocessing makes something that the model does not take."""

    def __init__(self, model: str, wants: Sequence[int], got: Sequence[int]) -> None:
        super().__init__(
            f"model {model!r} wants {tuple(wants)} but preprocessing makes {tuple(got)}; "
            "set `preprocess.size`, `preprocess.layout` and `preprocess.channels` of this target to match its config.pbtxt"
        )


class GradientError(TargetError):
    """A stand-in for the deployed model, or its gradients, cannot be had or is another model."""


class TargetOutputError(TargetError):
    """The server's answer cannot be read as class scores."""


class DetectorError(AuditError):
    """A concept detector cannot be built or used."""


class StoreError(AuditError):
    """The result store cannot be read or written."""


class StoppedError(BaseException):
    """The process is being stopped.  As with Ctrl-C, nobody may take it for a failure of what was being done; what was answered is kept."""
