"""Feature networks that users supply: how pictures are given to them, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.features import FeatureNetwork, FeatureOptions, file_features, prepared

IMAGES = np.random.default_rng(0).random((20, 3, 8, 8), np.float32)


def network(path, *, outputs=("pool", "map"), inputs=1):
    """``pool``: channel means; ``map``: the pictures themselves."""
    nodes = [
        helper.make_node("ReduceMean", ["x0"], ["pool"], axes=[2, 3], keepdims=0),
        helper.make_node("Identity", ["x0"], ["map"]),
    ]
    shapes = {"pool": ["n", 3], "map": ["n", 3, "h", "w"]}
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info(f"x{at}", TensorProto.FLOAT, ["n", 3, "h", "w"]) for at in range(inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize("output", ["pool", "map"])
def test_features_of_places_are_averaged(tmp_path, output):
    """More pictures than a batch holds."""
    found = file_features(FeatureOptions(file=network(tmp_path / "n.onnx"), output=output), threads=1).read(IMAGES)
    np.testing.assert_allclose(found["features"], IMAGES.mean((2, 3)), atol=1e-6)


def test_pictures_are_given_as_the_network_was_trained():
    """Blue first, on 0 to 255, less the means of VGGFace2, resized to its side."""
    options = FeatureOptions(file="n.onnx", size=4, scale=255, mean=(91.4953, 103.8827, 131.0912), channels="BGR")
    flat = np.broadcast_to(np.array([0.1, 0.2, 0.3], np.float32)[None, :, None, None], (1, 3, 8, 8))
    told = prepared(flat, options)
    assert told.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(told[0, :, 0, 0], [0.3 * 255 - 91.4953, 0.2 * 255 - 103.8827, 0.1 * 255 - 131.0912], rtol=1e-4)


def test_identity_is_of_file_output_and_preparation(tmp_path):
    file = network(tmp_path / "n.onnx")
    options = [
        FeatureOptions(file=file, output="pool"),
        FeatureOptions(file=file, output="map"),
        FeatureOptions(file=file, output="pool", size=4),
    ]
    found = [file_features(each, threads=1).fingerprint for each in options]
    assert len(set(found)) == 3
    assert file_features(options[0], threads=1).fingerprint == found[0]


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="one of the two"):
        FeatureOptions()
    with pytest.raises(ValueError, match="above 0"):
        FeatureOptions(file="n.onnx", std=(1, 0, 1))
    two = network(tmp_path / "two.onnx")
    with pytest.raises(DetectorError, match="has several outputs; name one of pool, map as `output`"):
        file_features(FeatureOptions(file=two))
    with pytest.raises(DetectorError, match="has no output 'pol'; name one of pool, map"):
        file_features(FeatureOptions(file=two, output="pol"))
    with pytest.raises(DetectorError, match="has 2 inputs"):
        file_features(FeatureOptions(file=network(tmp_path / "pair.onnx", inputs=2), output="pool"))
    with pytest.raises(DetectorError, match="not finite"):
        FeatureNetwork(name="n", identity="i", options=FeatureOptions(file=two), run=lambda x: np.full((len(x), 2), np.nan)).read(
            IMAGES
        )
    with pytest.raises(DetectorError, match=r"answers \(16,\) for 16 pictures"):
        FeatureNetwork(name="n", identity="i", options=FeatureOptions(file=two), run=lambda x: x.mean((1, 2, 3))).read(IMAGES)
