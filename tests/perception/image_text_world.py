"""Image-text models for the tests: a hand-made one whose answers are known, and a small CLIP with random weights in both forms."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[3] / "shared" / "data")
VOCABULARY = DATA / "clip-vocab" / "bpe_simple_vocab_16e6.txt.gz"
WORDS = {"red": (1, -1, 0), "blue": (-1, 1, 0), "good": (0.1, 0.1, 0), "bad": (-0.1, -0.1, 0)}


def save(path, nodes, inputs, outputs, constants):
    """A small graph."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(op, names, [out], **more) for op, names, out, more in nodes],
        "test",
        [helper.make_tensor_value_info(name, kinds[kind], shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kinds["f"], shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def colour_model(root, *, lean=0.0):
    """A picture's vector is (mean red, mean blue, 1/4), a text's the sum of its words' vectors and (0, 0, 1/4): exactly what they say.

    ``lean`` adds redness to every picture, for a model that is wrong in a known way.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    root.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<pad>": 0, "<unk>": 1} | {word: at for at, word in enumerate(WORDS, 2)}
    table = np.zeros((len(vocabulary), 3), np.float32)
    table[2:] = list(WORDS.values())
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "tokenizer.json"))
    save(
        root / "image.onnx",
        [
            ("ReduceMean", ["pixels"], "mean", {"axes": [2, 3], "keepdims": 0}),
            ("MatMul", ["mean", "take"], "taken", {}),
            ("Add", ["taken", "offset"], "embedding", {}),
        ],
        [("pixels", "f", ["n", 3, 8, 8])],
        [("embedding", ["n", 3])],
        {
            "take": np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], np.float32),
            "offset": np.array([lean, 0, 0.25], np.float32),
        },
    )
    save(
        root / "text.onnx",
        [
            ("Gather", ["table", "tokens"], "words", {}),
            ("ReduceSum", ["words", "one"], "sum", {"keepdims": 0}),
            ("Add", ["sum", "offset"], "embedding", {}),
        ],
        [("tokens", "i", ["n", 6])],
        [("embedding", ["n", 3])],
        {"table": table, "one": np.array([1], np.int64), "offset": np.array([0, 0, 0.25], np.float32)},
    )
    card = {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "context": 6}
    (root / "image_text.json").write_text(json.dumps(card))
    return root


def clip_directory(root):
    """A CLIPModel of random weights over CLIP's real vocabulary."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    if not VOCABULARY.exists():
        pytest.skip("CLIP's vocabulary is not there")
    root.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = clip_vocabulary()
    (root / "vocab.json").write_text(json.dumps(vocabulary))
    (root / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": 12},
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": 12},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(config).eval()
        for parameter in model.parameters():  # far enough from 0 for embeddings to differ
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(root, safe_serialization=True)
    return root


def clip_vocabulary():
    """(vocabulary, merges) as CLIP's own code makes them of the published file."""
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [256 + at for at in range(256 - len(visible))]
    symbols = [chr(code) for code in [*visible, *hidden]]
    names = [*symbols, *(f"{one}</w>" for one in symbols), *("".join(merge.split()) for merge in merges)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return {name: at for at, name in enumerate(names)}, merges


def exported(source, root):
    """The same CLIP as two ONNX graphs with a card."""
    import shutil

    import torch
    from transformers import CLIPModel

    root.mkdir(parents=True, exist_ok=True)
    model = CLIPModel.from_pretrained(source, local_files_only=True).eval()
    model.set_attn_implementation("eager")

    class Image(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, tokens, mask):
            found = self.model.text_model(input_ids=tokens, attention_mask=mask).pooler_output
            return self.model.text_projection(found)

    tokens = torch.full((2, 77), 49407)
    tokens[:, 0] = 49406
    for name, module, given, inputs in [
        ("image", Image(), (torch.rand(2, 3, 32, 32),), ["pixels"]),
        ("text", Text(), (tokens, torch.ones_like(tokens)), ["tokens", "mask"]),
    ]:
        torch.onnx.export(
            module.eval(),
            given,
            str(root / f"{name}.onnx"),
            input_names=inputs,
            output_names=["vector"],
            dynamic_axes={name: {0: "n"} for name in [*inputs, "vector"]},
            dynamo=False,
        )
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, root / name)
    (root / "image_text.json").write_text(json.dumps({"size": 32, "pad": 49407}))
    return root
