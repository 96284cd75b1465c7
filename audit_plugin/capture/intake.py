"""From the bytes of an event to what the writer is given; every refusal is counted by its reason."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from audit_plugin.capture.answers import classes_of
from audit_plugin.capture.events import Event, read_event
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.capture.payload import Inference, read_inference
from audit_plugin.capture.pictures import pictures_of
from audit_plugin.capture.reservoir import picture_id
from audit_plugin.capture.sink import Answered, Shown, Sink
from audit_plugin.core.errors import CaptureError, ConfigError
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.target.options import TargetOptions

_SCALE = float(2**63)


@dataclass(frozen=True)
class Intake:
    """What an installation does with events."""

    sink: Sink
    targets: Mapping[str, TargetOptions]
    """The captured models by name."""

    def accept(self, headers: Mapping[str, str], body: bytes) -> int:
        """Take one event; the number of pictures or answers that it gave, 0 where the share did not choose it.

        Raises:
            CaptureError: it is refused, and counted.
        """
        self.sink.received()
        try:
            return self._accept(headers, body)
        except CaptureError as error:
            if error.reason != "queue_full":  # the sink has counted its items
                self.sink.drop(error.reason)
            raise

    def _accept(self, headers: Mapping[str, str], body: bytes) -> int:
        options = self.sink.options
        if len(body) > options.body_bytes:
            raise too_large(options)
        event = read_event(headers, body)
        if event.audit:
            raise CaptureError("audit", "requests of audits are not captured", status=422)
        if seed_of("capture share", event.id) / _SCALE >= options.share:
            return 0
        self.sink.received(sampled=True)
        inference = read_inference(event)
        if inference.audit:
            raise CaptureError("audit", "requests of audits are not captured", status=422)
        target = self._target(event, inference)
        items = self._items(event, inference, target)
        if not self.sink.offer(items):
            raise CaptureError("queue_full", "the writer of captured pictures is behind; this event was dropped", status=429)
        return len(items)

    def _items(self, event: Event, body: Inference, target: TargetOptions) -> Sequence[Shown | Answered]:
        model, version = target.model, body.version or event.version
        if event.kind == "response":
            answers = enumerate(classes_of(body, target))
            return [
                Answered(model=model, id=picture_id(model, event.id, at), predicted=name, version=version) for at, name in answers
            ]
        pictures = pictures_of(body, target.preprocess, name=target.input, pixels=self.sink.options.pixels)
        return [
            Shown(model=model, id=picture_id(model, event.id, at), picture=one, version=version) for at, one in enumerate(pictures)
        ]

    def _target(self, event: Event, body: Inference) -> TargetOptions:
        """Whose event it is: as our middleware says, as the InferenceService is mapped or named, or as the body says."""
        services = self.sink.options.services
        for name in (event.model, services.get(event.service, event.service), body.model):
            if name in self.targets:
                return self.targets[name]
        raise CaptureError(
            "unknown_model",
            f"model {(event.model or event.service or body.model)[:60]!a} is not captured; name it in `capture.models` or map it in "
            "`capture.services`",
            status=422,
        )


def too_large(options: CaptureOptions) -> CaptureError:
    """The refusal of a body over the limit."""
    return CaptureError("too_large", f"the event is larger than {options.body_bytes} bytes; raise `capture.body_mb`", status=413)


@contextmanager
def capturing(options: CaptureOptions, targets: Sequence[TargetOptions], *, seed: str) -> Iterator[Intake]:
    """A running intake for the audited models; what waits is written in the end.  Raises ConfigError."""
    chosen = captured_targets(options, targets)
    with Sink(options, tuple(chosen), seed=seed) as sink:
        yield Intake(sink, chosen)


def captured_targets(options: CaptureOptions, targets: Sequence[TargetOptions]) -> dict[str, TargetOptions]:
    """The captured ones of the audited models, by name.  Raises ConfigError for a name that none has."""
    known = {target.model: target for target in targets}
    wanted = options.models or tuple(known)
    for name in {*wanted, *options.services.values()}:
        if name not in known:
            raise ConfigError(f"capture: model {name!r} is not audited; audited are {', '.join(known)}")
    return {name: known[name] for name in wanted}
