"""A plan is used only when it is the network that the spec says, and as much of it is streamed as must be."""

from types import SimpleNamespace

import pytest

from engines.backends.trt.opening import HEADROOM_BYTES, limit_streaming, open_plan, start_library
from engines.backends.trt.plan import PLAN, read_facts
from engines.backends.trt.request import BuildOptions
from engines.backends.trt.vendor import as_vendor
from engines.errors import ArtifactError, BackendUnavailableError
from tests.engines.trt import fake
from tests.engines.trt.networks import SPEC


@pytest.fixture
def reopen(trt, make_backend, module):
    """Open the small network's plan, as whatever the fake now says it is."""
    backend = make_backend(trt, options=BuildOptions(refit=True))
    backend.build(module, SPEC)
    (path,) = backend.cache.root.glob(f"*/{PLAN}")
    library = start_library(as_vendor(trt), lambda: None)

    def reopen(content=None):
        if content is not None:
            path.write_bytes(content)
        return open_plan(library, path.parent, read_facts(path.parent), SPEC, lambda: 0)

    reopen.library = library
    return reopen


@pytest.mark.parametrize(
    ("name", "says", "message"),
    [
        ("get_tensor_shape", (-1, 9, 9), r"'x' as .* with rows of \(9, 9\)"),
        ("get_tensor_dtype", fake.DataType.INT64, r"'x' as .* with rows of \(2, 6\)"),
        ("get_tensor_mode", fake.TensorIOMode.OUTPUT, "no 'x' where the spec has it"),
        ("get_tensor_profile_shape", [[1, 2, 6], [2, 2, 6], [7, 2, 6]], "takes 1 to 7 rows"),
    ],
)
def test_a_plan_of_another_form_is_refused(reopen, monkeypatch, name, says, message):
    monkeypatch.setattr(fake.ICudaEngine, name, lambda *_: says)
    with pytest.raises(ArtifactError, match=message):
        reopen()


def test_a_plan_that_lost_its_promise_is_refused(reopen, monkeypatch):
    monkeypatch.setattr(fake.ICudaEngine, "refittable", False)
    with pytest.raises(ArtifactError, match="was to be refittable"):
        reopen()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "cannot be read"), (b"no plan", "magic tag does not match; build it again")]
)
def test_what_is_no_plan_is_refused_in_the_words_of_the_runtime(reopen, content, message):
    """Of this refusal, not of those before."""
    reopen.library.heard.log(fake.ILogger.ERROR, "old news")
    with pytest.raises(ArtifactError, match=message) as caught:
        reopen(content)
    assert "old news" not in str(caught.value)


@pytest.mark.parametrize(("room", "resident"), [(0, 0), (100, 100), (1000, 312)])
def test_what_fits_stays_on_the_device(room, resident):
    """The rest of the weights is streamed; activations have their headroom."""
    engine = SimpleNamespace(streamable_weights_size=312, weight_streaming_budget_v2=312)
    limit_streaming(engine, lambda: HEADROOM_BYTES + room)
    assert engine.weight_streaming_budget_v2 == resident


def test_the_runtime_is_not_started_without_a_driver(trt):
    """Here too: whoever asks."""
    with pytest.raises(BackendUnavailableError, match="no driver"):
        start_library(as_vendor(trt), lambda: "no driver")


def test_a_runtime_that_is_null_is_an_error(trt, monkeypatch):
    """As the bindings put it."""

    def null(_):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Runtime", null)
    vendor = as_vendor(fake.make(11))
    with pytest.raises(BackendUnavailableError, match="does not start"):
        start_library(type(vendor)(trt, "tensorrt", "11.4.0", lean=False), lambda: None)
