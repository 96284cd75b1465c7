"""Where objects are, by networks whose answers are known."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.segmenters import Segmenter, SegmenterOptions, file_segmenter

CHANNELS = {"red": 0, "blue": 2}


def network(path, *, shrink=2):
    """Its channels are the colours' logits at half the resolution: 0.9 where a colour is full, 0.1 where it is absent."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["small"], kernel_shape=[shrink, shrink], strides=[shrink, shrink]),
        helper.make_node("Mul", ["small", "slope"], ["steep"]),
        helper.make_node("Add", ["steep", "shift"], ["map"]),
    ]
    logit = float(np.log(9))
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("slope", 2 * logit), ("shift", -logit))
    ]
    source, told = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, None, None]) for name in ("x", "map"))
    graph = helper.make_graph(nodes, "colours", [source], [told], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def scene(side=16, wide=None):
    """Red in the upper left quarter, blue in the lower right one, black elsewhere."""
    image = np.zeros((3, side, wide or side), np.float32)
    image[0, : side // 2, : side // 2] = 1
    image[2, side // 2 :, side // 2 :] = 1
    return image[None]


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    file = network(tmp_path_factory.mktemp("segmenter") / "colours.onnx")
    return file_segmenter(SegmenterOptions(file=file, channels=CHANNELS, activation="sigmoid"), threads=1)


def test_masks_are_of_the_pictures_size_whatever_the_networks(colours):
    """The object is where it is; two words are where either is."""
    red = colours.masks(scene(), ["red"])[0]
    assert red.shape == (16, 16)
    assert red[:7, :7].all()
    assert not red[9:].any()
    assert not red[:, 9:].any()
    both = colours.masks(scene(), ["red", "blue"])[0]
    assert both[:7, :7].all()
    assert both[9:, 9:].all()
    assert not both[:7, 9:].any()


def test_pictures_are_given_at_the_size_that_is_asked_for(colours):
    known = replace(colours, options=replace(colours.options, size=32))
    assert (known.masks(scene(), ["red"]) == colours.masks(scene(), ["red"])).mean() > 0.9


def test_only_the_middle_square_of_a_wide_picture_is_looked_at(colours):
    """What lies beside it shows no object."""
    wide = np.zeros((1, 3, 16, 32), np.float32)
    wide[:, 0] = 1
    mask = colours.masks(wide, ["red"])[0]
    assert mask.shape == (16, 32)
    assert mask[:, 8:24].all()
    assert not mask[:, :8].any()
    assert not mask[:, 24:].any()


def test_more_pictures_than_a_batch_holds(colours):
    many = np.concatenate([scene(), np.zeros((1, 3, 16, 16), np.float32)] * 20)
    assert colours.masks(many, ["red"]).any((1, 2)).tolist() == [True, False] * 20


def test_what_covers_too_little_is_no_object(colours):
    known = replace(colours, options=replace(colours.options, min_area=0.4))
    assert not known.masks(scene(), ["red"]).any()


def of(maps, **options):
    """A network that answers the same whatever it is shown."""
    known = SegmenterOptions(file="none", channels={"thing": 1}, **options)
    return Segmenter(name="n:map", options=known, run=lambda images: np.broadcast_to(maps, (len(images), *np.shape(maps))))


def test_channels_are_made_probabilities():
    """A softmax over all of them, a sigmoid of each, or as they are."""
    logits = np.array([0.0, np.log(3.0)])[:, None, None]
    grey = np.zeros((1, 3, 4, 4), np.float32)
    told = [of(logits, activation=kind).probabilities(grey, ["thing"])[0, 0, 0] for kind in ("softmax", "sigmoid")]
    assert told == pytest.approx([0.75, 0.75])
    assert of(np.array([0.1, 0.6])[:, None, None], activation="none").probabilities(grey, ["thing"])[0] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("maps", "options", "says"),
    [
        (np.zeros((2,)), {}, r"answers \(1, 2\) for 1 pictures; name an output with channels"),
        (np.zeros((1, 2, 2)), {}, "has channels 0 to 0, and 'thing' is said to be channel 1"),
        (np.full((2, 2, 2), np.nan), {}, "not finite; check its `scale`"),
        (np.full((2, 2, 2), 3.0), {"activation": "none"}, "answers 3 to 3, which are no probabilities; set its `activation`"),
    ],
)
def test_what_is_no_segmentation_is_one_clear_line(maps, options, says):
    with pytest.raises(DetectorError, match=says) as caught:
        of(maps, **options).masks(np.zeros((1, 3, 4, 4), np.float32), ["thing"])
    assert "\n" not in str(caught.value)


def test_softmax_of_one_channel_is_refused():
    known = SegmenterOptions(file="none", channels={"thing": 0})
    with pytest.raises(DetectorError, match="one channel, of which softmax says nothing; set `activation: sigmoid`"):
        Segmenter(name="n", options=known, run=lambda images: images[:, :1].astype(float)).masks(scene(), ["thing"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "`file` or as `model`"),
        ({"file": "a", "model": "b"}, "`file` or as `model`"),
        ({"file": "a", "channels": {}}, "at least one object"),
        ({"file": "a", "channels": {"x": -1}}, "count from 0"),
        ({"file": "a", "threshold": 1.0}, "threshold lies between"),
        ({"file": "a", "min_area": 1.0}, "min_area from 0"),
        ({"file": "a", "std": (0.0, 1.0, 1.0)}, "std above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        SegmenterOptions(**{"channels": {"x": 0}, **options})


def test_files_that_are_no_segmenter_are_one_clear_line(tmp_path):
    with pytest.raises(DetectorError, match=r"discover\.segmenter: .*none\.onnx' is not there; put the ONNX graph there"):
        file_segmenter(SegmenterOptions(file=str(tmp_path / "none.onnx"), channels=CHANNELS))
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DetectorError, match=r"discover\.segmenter: .* is no ONNX graph"):
        file_segmenter(SegmenterOptions(file=str(tmp_path / "text.onnx"), channels=CHANNELS))


def fading(count):
    """Red squares, of which the last are ever paler: probabilities from 0.9 down to 0.1."""
    images = np.repeat(scene(), count, 0)
    images[:, 0] *= np.linspace(1, 0, count, dtype=np.float32)[:, None, None]
    return images


def test_a_threshold_is_lowered_until_nine_of_ten_real_objects_are_found(colours):
    """And no further than the floor."""
    real = fading(40)
    assert colours.masks(real, ["red"]).any((1, 2)).mean() < 0.7
    known, share = colours.calibrated(real, ["red"])
    assert 0.1 < known.least < 0.4
    assert share == pytest.approx(0.9, abs=0.03)
    assert known.masks(real, ["red"]).any((1, 2)).mean() == pytest.approx(share)
    blind = of(np.full((2, 4, 4), 0.001), activation="none")
    assert blind.calibrated(real, ["thing"])[1] == 0
    assert blind.calibrated(real, ["thing"])[0].least == 0.05


def test_a_threshold_that_finds_enough_is_not_raised(colours):
    """A network that is sure of real objects may be less sure of drawn ones."""
    known, share = colours.calibrated(np.repeat(scene(), 12, 0), ["red"])
    assert (known.least, share) == (0.4, 1.0)
