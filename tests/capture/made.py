"""Events as KServe's logger and our middleware send them, and what takes them."""

import base64
import json
from contextlib import contextmanager

import numpy as np

from audit_plugin.capture.intake import Intake
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.capture.sink import Sink
from audit_plugin.sources.images import encode_png
from audit_plugin.target.options import PreprocessOptions, TargetOptions

TYPE = "org.kubeflow.serving.inference."
TARGET = TargetOptions(
    model="leaves",
    labels=("ill", "healthy"),
    preprocess=PreprocessOptions(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), channels="BGR"),
)


def picture(seed=0, height=6, width=5):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def headers(kind="request", identity="a", **more):
    """Of binary mode; ``more`` replaces, None removes."""
    all_of = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": "http://localhost:9081/",
        "ce-type": TYPE + kind,
        "ce-inferenceservicename": "leaves",
        "ce-namespace": "prod",
        "ce-component": "predictor",
        "ce-endpoint": "default",
        "ce-metadata": "{}",
        "ce-time": "2026-11-29T05:00:00.123456789Z",
    } | {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in all_of.items() if value is not None}


def body(data, shape, datatype="FP32", *, name="image", kind="inputs", **more):
    return json.dumps({kind: [{"name": name, "datatype": datatype, "shape": list(shape), "data": data}], **more}).encode()


def encoded(seed=0):
    """A request with one PNG as base64, and its picture."""
    pixels = picture(seed)
    text = base64.b64encode(encode_png(pixels, synthetic=False)).decode()
    return body([text], [1], "BYTES"), pixels


def answer(scores):
    return body(np.ravel(scores).tolist(), np.shape(scores), kind="outputs", name="probs", model_name="leaves", model_version="3")


def options(path, **more):
    return CaptureOptions(path=str(path), **more)


@contextmanager
def intake(path, *, clock=None, first_pause=0.05, **more):
    """A running one."""
    clocked = {} if clock is None else {"clock": clock}
    with Sink(options(path, **more), ["leaves"], seed="t", first_pause=first_pause, **clocked) as sink:
        yield Intake(sink, {"leaves": TARGET})
