"""The image-text judge: on a model whose answers are known, and on a small CLIP in both forms."""

import json
import shutil
import warnings

import numpy as np
import pytest

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.perception.image_text import SENTENCES, ImageTextJudge, prompts_of
from audit_plugin.perception.image_text_models import clip_tokenizer, open_image_text
from tests.perception.image_text_world import VOCABULARY, clip_directory, clip_vocabulary, colour_model, exported

RED, BLUE = np.array([1, 0, 0], np.float32), np.array([0, 0, 1], np.float32)


def painted(*colours, side=16):
    return np.stack([np.broadcast_to(colour[:, None, None], (3, side, side)) for colour in colours]).astype(np.float32)


def judge(root, **prompts):
    return ImageTextJudge(open_image_text(root), prompts or {"colour": (("blue",), ("red",))})


def test_probabilities_are_a_softmax_over_a_hundred_cosines(tmp_path):
    """By hand: picture (1/2, 0.45, 1/4) against red (1, -1, 1/4) and blue (-1, 1, 1/4)."""
    (found,) = judge(colour_model(tmp_path)).read(painted(np.array([0.5, 0.3, 0.45], np.float32)))["colour"]
    picture = np.array([0.5, 0.45, 0.25])
    cosines = [picture @ text / np.linalg.norm(picture) / np.linalg.norm(text) for text in ([-1, 1, 0.25], [1, -1, 0.25])]
    wanted = np.exp(100 * np.array(cosines)) / np.exp(100 * np.array(cosines)).sum()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found[1] > 0.99


def test_sentences_that_say_one_thing_count_as_their_mean_vector(tmp_path):
    one = judge(colour_model(tmp_path), a=(("blue",), ("red",))).read(painted(0.51 * RED + 0.5 * BLUE))["a"]
    two = judge(tmp_path, a=(("blue", "blue"), ("red", "red"))).read(painted(0.51 * RED + 0.5 * BLUE))["a"]
    mixed = judge(tmp_path, a=(("blue", "red"), ("red", "blue"))).read(painted(0.51 * RED + 0.5 * BLUE))["a"]
    np.testing.assert_allclose(one, two)
    np.testing.assert_allclose(mixed, 0.5)
    assert one[0, 1] > 0.6


def test_only_the_centre_of_a_wide_picture_is_seen(tmp_path):
    wide = np.concatenate([painted(BLUE), painted(RED), painted(BLUE)], axis=3)
    assert judge(colour_model(tmp_path)).read(wide)["colour"][0, 1] > 0.99


def test_nodes_classes_and_realism_are_asked():
    """Exact nodes and nodes without sentences are not."""
    nodes = (
        Node(path="a", name="a", present=("red",), absent=("blue",)),
        Node(path="b", name="b", present=("red",)),
        Node(path="c", name="c", present=("red",), absent=("blue",), operator="deterministic"),
    )
    found = prompts_of(ConceptTree(domain="d", nodes=nodes), [("n02", "tabby_cat"), ("only",)], "a {class}", {"n02": "dog"})
    assert found == {
        f"{SENTENCES}a": (("blue",), ("red",)),
        "classes:0": (("a dog",), ("a tabby cat",)),
        "photo:good": (("bad photo",), ("good photo",)),
    }


def test_the_identity_is_that_of_files_and_sentences(tmp_path):
    first = judge(colour_model(tmp_path / "a"))
    assert judge(shutil.copytree(tmp_path / "a", tmp_path / "b")).fingerprint == first.fingerprint
    assert judge(tmp_path / "a", colour=(("blue",), ("good",))).fingerprint != first.fingerprint
    assert judge(colour_model(tmp_path / "c", lean=0.1)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "text.onnx").unlink(), r"text\.onnx.*is not there"),
        (lambda root: (root / "image.onnx").write_bytes(b"no graph"), "no ONNX graph"),
        (lambda root: (root / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda root: (root / "image_text.json").write_text("{}"), "size: "),
        (lambda root: (root / "image_text.json").write_text('{"size": 8, "sise": 8}'), "sise"),
        (lambda root: (root / "image_text.json").unlink(), r"diffex\.judge\.path"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path, change, said):
    change(colour_model(tmp_path))
    with pytest.raises(DetectorError, match=said):
        open_image_text(tmp_path)


def test_a_text_that_would_be_cut_is_refused(tmp_path):
    with pytest.raises(DetectorError, match="7 tokens, the judge reads 6"):
        judge(colour_model(tmp_path), a=(("red " * 7,), ("blue",))).read(painted(RED))


def test_pickled_weights_are_not_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DetectorError, match="pickled weights are not read"):
        open_image_text(tmp_path)


@pytest.mark.skipif(not VOCABULARY.exists(), reason="CLIP's vocabulary is not there")
def test_the_tokenizer_is_clips():
    """Numbers published with CLIP's own code: of 'hello world!', and of a text in capitals with a number."""
    tokenizer = clip_tokenizer(*clip_vocabulary())
    assert tokenizer.encode("hello world!").ids == [49406, 3306, 1002, 256, 49407]
    assert tokenizer.encode("A photo  of a CAT").ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One CLIP as transformers saves it, and as two graphs."""
    source = clip_directory(tmp_path_factory.mktemp("clip") / "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        return open_image_text(source), open_image_text(exported(source, source.parent / "onnx"))


def test_both_forms_agree(both):
    """Pictures and texts, of several lengths, in batches of other sizes than those of the export."""
    torch_form, onnx_form = both
    images = np.random.default_rng(0).random((5, 3, 48, 40), dtype=np.float32)
    texts = ["a photo of a cat", "red", "a person's face, with sunglasses; from above"]
    np.testing.assert_allclose(torch_form.images(images), onnx_form.images(images), atol=1e-5)
    np.testing.assert_allclose(torch_form.texts(texts), onnx_form.texts(texts), atol=1e-5)
    assert np.linalg.norm(torch_form.texts(texts)[0] - torch_form.texts(texts)[1]) > 0.1
    np.testing.assert_allclose(np.linalg.norm(onnx_form.images(images), axis=1), 1)
