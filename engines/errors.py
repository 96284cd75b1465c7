"""Everything that can go wrong in an engine, as one tree.

EngineError
├── PipelineError                 a pipeline directory cannot be used
│   ├── MissingFileError          a file of the directory is not there
│   ├── UnsafeWeightsError        the weights are pickles, which run code when read
│   ├── DigestError               the directory's content is not what was pinned
│   └── UnsupportedPipelineError  the directory holds another kind of model
├── CaptionTooLongError           the text encoder would cut a caption
├── BackendError                  a network cannot be run as asked
│   ├── BackendUnavailableError   a pinned backend refuses, or all do; every reason is listed
│   ├── ExportError               a network cannot be written as a graph
│   │   └── PlanError             TensorRT cannot compile a graph
│   ├── ExecutionError            a built engine refuses to run
│   ├── CaptureError              work that cannot be recorded as a CUDA graph
│   ├── ArtifactError             a built artifact cannot be loaded, or is not what its manifest says
│   ├── ParityError               a backend computes other numbers than the reference
│   ├── NotRefittableError        an engine whose weights cannot be replaced
│   ├── RepositoryError           a model repository of a Triton server cannot be written
│   ├── ServerError               a Triton server does not answer, or with an error
│   ├── ServedModelError          a served model is not the network that was asked for
│   ├── OutOfMemoryError          the device has too little memory, also for smaller batches
│   └── ProcessDiedError          a library ended its process, or did not come to an end
├── FeedError                     a name, type, shape or batch that the engine does not take
├── ClosedEngineError             used after it was closed
├── WorkerDiedError               the thread that ran an engine ended before the request was served
├── ProductionBusyError           production left a shared device no time for longer than we are patient
└── CacheError                    the build cache cannot be read or written

Messages name the thing, what was wrong with it, and what to do.  A vendor's exception is mapped at the border with ``raise … from``.
"""

from collections.abc import Sequence


class EngineError(Exception):
    """Root of every error that an engine raises on purpose."""


class PipelineError(EngineError):
    """A pipeline directory cannot be used."""


class MissingFileError(PipelineError):
    """A file of the pipeline directory is not there."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} is missing: {why}; nothing is ever downloaded, so copy the complete pipeline directory")
        self.path = path


class UnsafeWeightsError(PipelineError):
    """The weights are pickles."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is a pickle, and reading a pickle runs whatever code it holds; convert the weights to .safetensors "
            "(diffusers: `save_pretrained(..., safe_serialization=True)`) where you trust their origin"
        )
        self.path = path


class DigestError(PipelineError):
    """The directory's content is not what was pinned."""

    def __init__(self, directory: str, pinned: str, found: str) -> None:
        super().__init__(
            f"{directory} has the digest {found}, pinned is {pinned}: some file differs; restore the directory, or pin the new digest "
            "where the change is meant"
        )
        self.pinned, self.found = pinned, found


class UnsupportedPipelineError(PipelineError):
    """The directory holds a model of another kind."""


class CaptionTooLongError(EngineError):
    """The text encoder would cut the caption and draw something else than asked."""

    def __init__(self, caption: str, tokens: int, limit: int) -> None:
        super().__init__(
            f"caption {caption!r} has {tokens} tokens, the text encoder reads {limit}; "
            "shorten the caption template, or name fewer concepts in one caption"
        )
        self.caption, self.tokens, self.limit = caption, tokens, limit


class BackendError(EngineError):
    """A network cannot be run as asked."""


class BackendUnavailableError(BackendError):
    """No backend that was allowed can run the network."""

    def __init__(self, wanted: str, reasons: Sequence[str], *, uncertified: bool = False) -> None:
        """``uncertified`` says that one could run it, with numbers too far off: a higher precision may do."""
        super().__init__(f"backend {wanted!r} cannot be used: {'; '.join(reasons)}")
        self.wanted, self.reasons, self.uncertified = wanted, tuple(reasons), uncertified


class ExportError(BackendError):
    """A network cannot be written as a graph."""


class PlanError(ExportError):
    """TensorRT cannot compile a graph, or its builder died of it."""

    def __init__(self, stage: str, reasons: Sequence[str]) -> None:
        cure = {
            "timeout": "raise the build's timeout_seconds, or lower its level",
            "crash": "free host and device memory, or use backend torch",
            "driver": "check the GPU driver",
        }
        said = "; ".join(reasons)
        super().__init__(f"TensorRT cannot build the plan ({stage}): {said}; {cure.get(stage, 'use backend torch')}")
        self.stage, self.reasons = stage, tuple(reasons)


class ExecutionError(BackendError):
    """A built engine refuses to run."""


class CaptureError(BackendError):
    """Work that cannot be recorded as a CUDA graph."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the work cannot be recorded: {why}; it must not wait for the device, copy from the host or decide by numbers on the "
            "device; use capture policy none to run it as it is"
        )


class ArtifactError(BackendError):
    """A built artifact cannot be loaded, or is not what its manifest says."""


class ParityError(BackendError):
    """A backend computes other numbers than the reference."""


class NotRefittableError(BackendError):
    """An engine whose weights cannot be replaced."""

    def __init__(self, engine: str, why: str) -> None:
        super().__init__(f"engine {engine!r} cannot take new weights: {why}; build it again from the changed module")


class RepositoryError(BackendError):
    """A model repository of a Triton server cannot be written."""


class ServerError(BackendError):
    """A Triton server does not answer, or with an error."""


class ServedModelError(BackendError):
    """A served model is not the network that was asked for."""


class OutOfMemoryError(BackendError):
    """The device has too little memory, also for smaller batches."""


class ProcessDiedError(BackendError):
    """A library ended its process, or did not come to an end."""


class FeedError(EngineError):
    """A name, type, shape or batch that the engine does not take."""


class ClosedEngineError(EngineError):
    """Used after it was closed."""

    def __init__(self, engine: str) -> None:
        super().__init__(f"engine {engine!r} was closed; build or load it again")


class WorkerDiedError(EngineError):
    """The thread that ran an engine ended before the request was served."""

    def __init__(self, engine: str, why: BaseException) -> None:
        super().__init__(
            f"the worker of engine {engine!r} ended by {type(why).__name__}: {why}; build the engine and its worker again"
        )


class ProductionBusyError(EngineError):
    """Production left a shared device no time for longer than we are patient."""

    def __init__(self, engine: str, seconds: float) -> None:
        super().__init__(
            f"engine {engine!r} has waited {seconds:.0f} s for a device that production needs; "
            "audit at a quieter time, or give the audit a device of its own"
        )


class CacheError(EngineError):
    """The build cache cannot be read or written."""


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing: libraries add pages of advice."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
