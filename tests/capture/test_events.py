"""Every event that a logger sends is read; nothing else gets further than one typed refusal."""

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit_plugin.capture.answers import classes_of
from audit_plugin.capture.events import read_event
from audit_plugin.capture.payload import read_inference
from audit_plugin.capture.pictures import pictures_of, undo
from audit_plugin.core.capture import DROPS
from audit_plugin.core.errors import CaptureError
from audit_plugin.target.options import Activation, PreprocessOptions, TargetOptions
from audit_plugin.target.preprocess import to_input
from tests.capture.made import TARGET, TYPE, answer, body, encoded, headers, picture


def pictures(given_headers, data, target=TARGET, pixels=10_000):
    inference = read_inference(read_event(given_headers, data))
    return pictures_of(inference, target.preprocess, name=target.input, pixels=pixels)


def classes(data, target=TARGET, **more):
    return classes_of(read_inference(read_event(headers("response", **more), data)), target)


def tensor_of(pixels, preprocess=TARGET.preprocess):
    return to_input(pixels[None].transpose(0, 3, 1, 2).astype(np.float32) / 255, preprocess)


def binary(tensor, datatype="FP32", **declared):
    """Open Inference Protocol with one binary tensor: the JSON's length, and the body."""
    raw = tensor if isinstance(tensor, bytes) else tensor.tobytes()
    one = {
        "name": "image",
        "datatype": datatype,
        "shape": list(np.shape(tensor)) or [1],
        "parameters": {"binary_data_size": len(raw)},
    }
    start = json.dumps({"inputs": [one | declared]}).encode()
    return len(start), start + raw


def test_a_request_as_json_gives_back_the_clients_picture():
    """Scale, mean, std, order of colours and layout are undone exactly."""
    tensor = tensor_of(picture())
    for data in (tensor.ravel().tolist(), tensor.tolist()):
        (found,) = pictures(headers(), body(data, tensor.shape))
        np.testing.assert_array_equal(found, picture())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["FP32", "FP16", "UINT8"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "GREY"])
def test_preprocessing_is_undone_whatever_it_is(layout, dtype, channels):
    """Within one step of 255 in half precision, exactly otherwise; grey comes back as grey."""
    moved = {} if dtype == "UINT8" else {"scale": 1 / 127.5, "mean": (1.0,) * 3, "std": (0.5,) * 3}
    preprocess = PreprocessOptions(layout=layout, dtype=dtype, channels=channels, **moved)
    pixels = picture(1) if channels != "GREY" else np.repeat(picture(1)[..., :1], 3, axis=2)
    (found,) = undo(tensor_of(pixels, preprocess), preprocess)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() <= int(dtype == "FP16")


@pytest.mark.parametrize("where", ["header", "metadata", "nowhere"])
def test_binary_tensors_are_read_with_or_without_their_headers_length(where):
    """KServe passes the header on only if the operator lists it."""
    tensor = tensor_of(picture(2))
    length, data = binary(tensor)
    told = {
        "header": {"inference-header-content-length": str(length)},
        "metadata": {"ce-metadata": json.dumps({"Inference-Header-Content-Length": [str(length)]})},
        "nowhere": {},
    }[where]
    (found,) = pictures(headers(content_type="application/octet-stream", **told), data)
    np.testing.assert_array_equal(found, picture(2))


def test_the_requests_header_length_is_not_taken_for_that_of_its_answer():
    """KServe notes the request's headers with both."""
    noted = json.dumps({"Inference-Header-Content-Length": ["7"]})
    assert classes(answer([[0.9, 0.1]]), ce_metadata=noted) == ["ill"]


def test_encoded_pictures_are_decoded_from_json_binary_and_older_requests():
    """base64 in JSON, raw bytes with their length, and ``instances``."""
    data, pixels = encoded()
    text = json.loads(data)["inputs"][0]["data"][0]
    png = base64.b64decode(text)
    _, raw = binary(struct.pack("<I", len(png)) + png, "BYTES", shape=[1])
    older = [json.dumps({"instances": [one]}).encode() for one in (text, {"b64": text}, {"image": {"b64": text}}, {"data": text})]
    for sent in (data, raw, *older):
        (found,) = pictures(headers(content_type="application/octet-stream"), sent)
        np.testing.assert_array_equal(found, pixels)


def test_older_requests_with_numbers_are_read():
    """``instances`` as nested lists, one for each picture."""
    tensors = np.concatenate([tensor_of(picture(seed)) for seed in (3, 4)])
    found = pictures(headers(), json.dumps({"instances": tensors.tolist()}).encode())
    np.testing.assert_array_equal(found, [picture(3), picture(4)])


@pytest.mark.parametrize("form", ["data", "text", "data_base64"])
def test_structured_mode_says_the_same(form):
    """application/cloudevents+json, with the payload as JSON, as text or as base64."""
    data, pixels = encoded()
    payload = {"data": json.loads(data), "text": data.decode(), "data_base64": base64.b64encode(data).decode()}[form]
    event = {"specversion": "1.0", "id": "a", "source": "s", "type": TYPE + "request", "inferenceservicename": "leaves"}
    event["data" if form == "text" else form] = payload
    sent = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    np.testing.assert_array_equal(pictures(sent, json.dumps(event).encode())[0], pixels)


def test_metadata_is_stripped():
    """What is kept is made of pixels alone, upright."""
    from io import BytesIO

    from PIL import Image

    file, exif = BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a name"
    Image.fromarray(picture()).save(file, "JPEG", exif=exif)
    (found,) = pictures(headers(), body([base64.b64encode(file.getvalue()).decode()], [1], "BYTES"))
    assert found.shape == (5, 6, 3)


NONE = TargetOptions(model="leaves")


@pytest.mark.parametrize(
    ("target", "data", "expected"),
    [
        (TARGET, answer([[0.9, 0.1], [0.2, 0.8]]), ["ill", "healthy"]),
        (NONE, answer([[0.1, 0.2, 0.7]]), ["2"]),
        (TARGET, body([1], [1], "INT64", kind="outputs"), ["healthy"]),
        (TARGET, body(["healthy"], [1, 1], "BYTES", kind="outputs"), ["healthy"]),
        (TARGET, body(["0.9:1:healthy", "0.1:0:ill"], [1, 2], "BYTES", kind="outputs"), ["healthy"]),
        (NONE, json.dumps({"predictions": [[0.3, 0.7]]}).encode(), ["1"]),
        (NONE, json.dumps({"predictions": [4, 5]}).encode(), ["4", "5"]),
        (TARGET, json.dumps({"predictions": ["ill"]}).encode(), ["ill"]),
        (
            TargetOptions(model="leaves", labels=("no", "yes"), activation=Activation.SIGMOID),
            body([1.5, -0.1], [2, 1], kind="outputs"),
            ["yes", "no"],
        ),
    ],
)
def test_answers_give_the_class(target, data, expected):
    """Scores, numbers and names; by labels where the configuration has them."""
    assert classes(data, target) == expected


BIG = body([0.0], [1, 3, 100_000, 100_000])


@pytest.mark.parametrize(
    ("reason", "given_headers", "data"),
    [
        ("malformed", {}, b"{}"),
        ("malformed", headers(ce_specversion="0.3"), encoded()[0]),
        ("malformed", headers(ce_id=None), encoded()[0]),
        ("malformed", headers(ce_id="x" * 301), encoded()[0]),
        ("malformed", headers(ce_source=None), encoded()[0]),
        ("malformed", headers("rejection"), encoded()[0]),
        ("malformed", headers(), b"\xff\xfe not json"),
        ("malformed", headers(), b"[" * 100_000),
        ("malformed", headers(), b"{}"),
        ("malformed", headers(), body([0.0] * 5, [1, 3, 6, 5])),
        ("malformed", headers(), body([[0.0], [1.0, 2.0]], [1, 3, 1, 1])),
        ("malformed", headers(), body([float("nan")] * 90, [1, 3, 6, 5])),
        ("malformed", headers(), body(["1" * 10, *[0] * 89], [1, 3, 6, 5], "FP32").replace(b"1111111111", b"word")),
        ("malformed", headers(), body([-1], [1, -3])),
        ("malformed", headers(), body([256] * 90, [1, 3, 6, 5], "UINT8")),
        ("malformed", headers(inference_header_content_length="999999"), encoded()[0]),
        ("malformed", headers(), binary(b"123", shape=[1, 3, 6, 5])[1]),
        ("malformed", headers(), binary(b"", parameters={"binary_data_size": 10**12})[1]),
        ("malformed", headers(), binary(b"", parameters={"binary_data_size": 0})[1] + b"more"),
        ("malformed", headers(), binary(struct.pack("<I", 2**32 - 1) + b"short", "BYTES", shape=[1])[1]),
        ("malformed", {"content-type": "application/cloudevents+json"}, b"[]"),
        ("malformed", {"content-type": "application/cloudevents+json"}, b'{"data_base64": "?"}'),
        ("unsupported", headers(content_encoding="gzip"), encoded()[0]),
        ("unsupported", headers(content_type="text/plain"), encoded()[0]),
        ("unsupported", {"content-type": "application/cloudevents-batch+json"}, b"[]"),
        ("unsupported", headers(), body([True] * 90, [1, 3, 6, 5], "BOOL")),
        ("unsupported", headers(), BIG),
        ("unsupported", headers(), b'{"instances": [' + b"[]," * 500_001 + b"[]]}"),
        ("image", headers(), body([0.0] * 90, [1, 5, 6, 3])),
        ("image", headers(), body([0.0] * 90, [90])),
        ("image", headers(), body([200.0] * 90, [1, 3, 6, 5])),
        ("image", headers(), body([1e308, -1e308] * 45, [1, 3, 6, 5], "FP64")),
        ("image", headers(), body([base64.b64encode(b"no picture").decode()], [1], "BYTES")),
        ("image", headers(), json.dumps({"instances": []}).encode()),
    ],
)
def test_what_is_not_such_an_event_is_refused_with_a_reason(reason, given_headers, data):
    """One typed error, a sentence, before anything of the declared size is made."""
    with pytest.raises(CaptureError) as refusal:
        pictures(given_headers, data)
    assert refusal.value.reason == reason
    assert 400 <= refusal.value.status < 500
    assert len(str(refusal.value)) > 20


def test_an_image_bomb_is_refused_by_its_header():
    """A PNG of a few bytes that claims a quarter of a million pixels is not decoded; nor are many that are too much together."""
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    small = json.loads(encoded()[0])["inputs"][0]["data"][0]
    for files in ([base64.b64encode(bomb).decode()], [small] * 3):
        with pytest.raises(CaptureError, match="pixels") as refusal:
            pictures(headers(), body(files, [len(files)], "BYTES"), pixels=65)
        assert refusal.value.reason == "image"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.text(max_size=4), "datatype": st.sampled_from(["FP32", "UINT8", "BYTES", "INT64", "FP16"]) | st.text(max_size=4)},
    optional={
        "shape": st.lists(st.integers(-1, 9), max_size=5) | VALUES,
        "data": VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-2, 40)}) | VALUES,
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSORS, max_size=3) | VALUES,
        "outputs": st.lists(TENSORS, max_size=3) | VALUES,
        "instances": VALUES,
        "predictions": VALUES,
        "parameters": VALUES,
        "model_name": VALUES,
        "model_version": VALUES,
    },
)
DATA = st.binary(max_size=200) | st.builds(
    lambda document, rest: json.dumps(document).encode() + rest, BODIES, st.just(b"") | st.binary(max_size=40)
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "inference-header-content-length": st.integers(-1, 300).map(str) | st.text(max_size=5),
        "ce-metadata": VALUES.map(json.dumps) | st.text(max_size=20),
        "content-type": st.sampled_from(["application/cloudevents+json", "application/json", "application/octet-stream"])
        | st.text(max_size=5),
        "ce-specversion": st.sampled_from(["1.0", "0.3"]),
        "ce-id": st.text(max_size=5),
    },
)


def refusal_of(given_headers, data):
    """What is made of an event, if anything is."""
    try:
        event = read_event(given_headers, data)
        inference = read_inference(event)
        if event.kind == "request":
            found = pictures_of(inference, PreprocessOptions(), name=None, pixels=100)
            assert all(one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3 for one in found)
        else:
            assert all(isinstance(name, str) for name in classes_of(inference, NONE))
    except CaptureError as refusal:
        return refusal
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(more=HEADERS, data=DATA, kind=st.sampled_from(["request", "response"]))
@example(more={}, data=body([10**400], [1, 1, 1, 1]), kind="request")
@example(more={}, data=body([2**70], [1], "INT64", kind="outputs"), kind="response")
@example(more={}, data=body([1e308, -1e308], [1, 2], "FP64", kind="outputs"), kind="response")
@example(more={}, data=body(["0.1:\u00b2:x"], [1], "BYTES", kind="outputs"), kind="response")
@example(more={}, data=json.dumps({"predictions": [[1, [2]]]}).encode(), kind="response")
@example(more={}, data=json.dumps({"instances": [[[[0] * 3] * 3] * 3, []]}).encode(), kind="request")
def test_no_bytes_whatever_raise_anything_but_the_one_error(more, data, kind):
    """Events made of everything a sender could think of are read or refused."""
    refusal = refusal_of(headers(kind) | more, data)
    assert refusal is None or refusal.reason in DROPS
    json.dumps(str(refusal), ensure_ascii=False).encode()
