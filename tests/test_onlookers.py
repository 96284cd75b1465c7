"""Who looks at drawn pictures, from the configuration: files, a model on a server, and what `doctor` says of them."""

import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.cli.doctor import examine
from audit_plugin.config import load
from audit_plugin.core.errors import DetectorError, TargetError
from audit_plugin.onlookers import captioner_of, image_text_of, segmenter_of, tried
from audit_plugin.perception.segmenters import SegmenterOptions, file_segmenter
from audit_plugin.sources.images import encode_png
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.wire import Wire
from tests.concepts.chat_stand import Stand, served
from tests.end_to_end.site import make_site
from tests.fixtures.inference_server import FakeServer
from tests.perception.test_segmenters import CHANNELS, network

KNOWN = {"endpoint": "http://127.0.0.1:9", "model": "small"}


def maps(_server, request, _context):
    """Two channels, of which the second is the pictures' red."""
    images = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tuple(request.inputs[0].shape))
    told = np.stack([1 - images[:, 0], images[:, 0]], 1)
    output = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=told.shape)
    return pb.ModelInferResponse(model_name="fake", outputs=[output], raw_output_contents=[told.tobytes()])


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path / "site", 8)


def test_a_model_of_the_server_finds_objects():
    options = SegmenterOptions(model="fake", channels={"circle": 1}, activation="none")
    red = np.zeros((1, 3, 4, 4), np.float32)
    red[0, 0, :2] = 1
    with FakeServer(behaviours=[maps, maps]).running() as server, Wire(TargetOptions(url=server.url, model="fake")) as wire:
        found = segmenter_of(options, wire, lambda: 4)
        assert found.masks(red, ["circle"])[0].tolist() == [[True] * 4] * 2 + [[False] * 4] * 2


def test_a_model_that_is_no_segmenter_is_refused_before_anything_is_drawn():
    with FakeServer().running() as server, Wire(TargetOptions(url=server.url, model="fake")) as wire:
        for options, side, error, says in (
            (
                {"channels": {"circle": 1}},
                4,
                DetectorError,
                r"fake:y answers \(1, 2\) for 1 pictures; name an output with channels",
            ),
            ({"channels": {"circle": 1}, "output": "z"}, 4, DetectorError, "'fake' has no output 'z'; name one of y"),
            ({"channels": {"circle": 1}}, 8, TargetError, "set the network's `size`"),
        ):
            with pytest.raises(error, match=says):
                segmenter_of(SegmenterOptions(model="fake", **options), wire, lambda side=side: side)
        assert segmenter_of(None, wire, lambda: 4) is None


def test_files_are_relative_to_the_configuration_and_nothing_is_asked_unless_named(site):
    loaded = load(site.config, {})
    nobody = PictureFolder(str(site.folder / "pictures"))
    assert (captioner_of(loaded, nobody), image_text_of(loaded)) == (None, None)
    site.change(
        discover={"captioner": KNOWN, "segmenter": {"file": "seg.onnx", "channels": {"circle": 0}}},
        diffex={"judge": {"path": "clip"}},
    )
    loaded = load(site.config, {})
    assert loaded.config.discover.segmenter.file == str(site.folder / "seg.onnx")
    assert captioner_of(loaded, nobody).file == site.folder / "bank" / "captions.jsonl"
    with pytest.raises(DetectorError, match="site/clip"):
        image_text_of(loaded)()


def test_pictures_of_the_bank_are_what_is_described(site):
    pictures = PictureFolder(str(site.folder / "pictures"))
    sha = pictures.put(encode_png(np.full((8, 8, 3), (200, 10, 10), np.uint8), synthetic=True))
    with served(Stand(lambda picture: json.dumps({"caption": f"red {picture[..., 0].mean() > 150}"}))) as (url, _):
        site.change(discover={"captioner": {**KNOWN, "endpoint": url}})
        assert captioner_of(load(site.config, {}), pictures).captions([sha], lambda *_: None, "captions") == {sha: "red True"}


def test_the_doctor_tries_the_file(site):
    network(site.folder / "seg.onnx")
    for named, ok, says in (
        ({"file": "seg.onnx", "channels": CHANNELS, "activation": "sigmoid"}, True, "finds red, blue"),
        ({"file": "seg.onnx", "channels": {"red": 7}}, False, "has channels 0 to 2, and 'red' is said to be channel 7"),
        ({"file": "other.onnx", "channels": {"red": 0}}, False, "other.onnx' is not there"),
    ):
        site.change(discover=None).change(discover={"segmenter": named})
        told = next(one for one in examine(load(site.config, {})) if one.check == "segmenter")
        assert (told.subject, told.ok) == ("discover", ok)
        assert says in told.detail
    assert tried(file_segmenter(SegmenterOptions(file=str(site.folder / "seg.onnx"), channels=CHANNELS)), 8) == "finds red, blue"
