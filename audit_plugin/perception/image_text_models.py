"""Contrastive image-text models from a local directory: two ONNX graphs with a card, or a CLIP model of the transformers library.

Both forms see the centre square of a picture, resized by an antialiased triangle filter where CLIP itself uses cubic interpolation.
Nothing is ever downloaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.perception.sessions import answer, card, cpu_session, files_digest, standardised, unit

CARD = "image_text.json"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on."""
_BATCH = 32
_WEIGHTS = "model.safetensors"
Encode = Callable[[Sequence[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Texts -> token numbers and attention mask, ``(n, context)`` each."""


class ImageTextModel(Protocol):
    """Pictures and sentences in one space: the angle says how well they fit."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the embeddings could."""
        ...

    def images(self, images: Images) -> NDArray[np.float64]:
        """Unit vectors ``(n, d)`` of images ``(n, 3, h, w)`` in [0, 1]."""
        ...

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Unit vectors ``(n, d)``.  Raises DetectorError for a text that is too long to be read whole."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageTextCard:
    """What ``image_text.json`` says of the two graphs beside it."""

    size: int
    """Pixels per side that the image encoder sees."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Taken off each channel, in [0, 1] …"""
    std: tuple[float, float, float] = CLIP_STD
    """… before this divides it."""
    context: int = 77
    """Tokens of a text, padding included."""
    pad: int | None = None
    """Number of the padding token; the tokenizer's own, else 0, when absent."""
    image: str = "image.onnx"
    """Graph of the image encoder: one input, float32 ``(n, 3, size, size)``."""
    text: str = "text.onnx"
    """Graph of the text encoder: int64 ``(n, context)`` token numbers, and the attention mask where it has a second input."""
    image_embedding: str = ""
    """Output of the image graph; its first when empty."""
    text_embedding: str = ""
    """Output of the text graph; its first when empty."""
    schema_version: int = 1
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def open_image_text(directory: str | Path, *, threads: int = 0) -> ImageTextModel:
    """The model in a directory: two graphs where it has ``image_text.json``, else a CLIP of transformers.  Raises DetectorError."""
    root = Path(directory)
    if (root / CARD).is_file():
        return OnnxImageText(root, threads=threads)
    if (root / "config.json").is_file():
        return ClipImageText(root)
    raise DetectorError(
        f"image-text model {str(root)!r} has neither {CARD} nor a CLIP model's config.json; name a directory as `diffex.judge.path`"
    )


class OnnxImageText:
    """Two ONNX graphs on the CPU.  Implements :class:`ImageTextModel`."""

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        """Open the graphs that the card names."""
        self.card = card(ImageTextCard, directory / CARD)
        self._image = cpu_session(directory / self.card.image, threads=threads)
        self._text = cpu_session(directory / self.card.text, threads=threads)
        self._encode = read_tokenizer(directory, self.card.context, self.card.pad)
        self.fingerprint = files_digest(path for path in directory.iterdir() if path.is_file())

    def images(self, images: Images) -> NDArray[np.float64]:
        """As the protocol says."""
        (name,) = [entry.name for entry in self._image.get_inputs()][:1]
        out = [self.card.image_embedding or self._image.get_outputs()[0].name]
        parts = [
            answer(self._image, out, {name: standardised(some, self.card.size, self.card.mean, self.card.std)}, "image embedding")[
                0
            ]
            for some in _batches(images)
        ]
        return unit(np.concatenate(parts))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """As the protocol says."""
        names = [entry.name for entry in self._text.get_inputs()]
        out = [self.card.text_embedding or self._text.get_outputs()[0].name]
        inputs: Mapping[str, NDArray[np.int64]] = dict(zip(names, self._encode(texts), strict=False))
        return unit(answer(self._text, out, inputs, "text embedding")[0])


class ClipImageText:
    """A CLIPModel directory of transformers, weights in safetensors.  Implements :class:`ImageTextModel`."""

    def __init__(self, directory: Path) -> None:
        """Load the model on the CPU."""
        if not (directory / _WEIGHTS).is_file():
            raise DetectorError(f"image-text model {str(directory)!r} has no {_WEIGHTS}; pickled weights are not read")
        try:
            from transformers import CLIPModel
        except ImportError as error:
            raise DetectorError("a CLIP directory needs transformers and torch; install the 'cpu' or 'gpu' extra") from error
        try:
            self._model: Any = CLIPModel.from_pretrained(str(directory), local_files_only=True, use_safetensors=True)
            self._model.requires_grad_(False).train(False)
        except Exception as error:  # transformers raises what its readers raise
            raise DetectorError(f"image-text model {str(directory)!r} cannot be loaded: {error}") from error
        settings: Any = self._model.config
        self._size = int(settings.vision_config.image_size)
        self._mean, self._std = _normalisation(directory)
        self._encode = read_tokenizer(directory, int(settings.text_config.max_position_embeddings), None)
        self.fingerprint = files_digest(path for path in directory.iterdir() if path.is_file())

    def images(self, images: Images) -> NDArray[np.float64]:
        """As the protocol says."""
        import torch

        with torch.inference_mode():
            parts = [
                _embedding(
                    self._model.get_image_features(
                        pixel_values=torch.from_numpy(standardised(some, self._size, self._mean, self._std))
                    )
                )
                for some in _batches(images)
            ]
        return unit(np.concatenate(parts))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """As the protocol says."""
        import torch

        numbers, mask = (torch.from_numpy(part) for part in self._encode(texts))
        with torch.inference_mode():
            return unit(_embedding(self._model.get_text_features(input_ids=numbers, attention_mask=mask)))


def read_tokenizer(directory: Path, context: int, pad: int | None) -> Encode:
    """Of ``tokenizer.json``, or of CLIP's ``vocab.json`` and ``merges.txt``.  Raises DetectorError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DetectorError("reading texts needs tokenizers; install the 'cpu' or 'gpu' extra") from error
    try:
        if (directory / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        else:
            tokenizer = clip_tokenizer(
                json.loads((directory / "vocab.json").read_text(encoding="utf-8")),
                (directory / "merges.txt").read_text(encoding="utf-8").splitlines(),
            )
    except Exception as error:  # tokenizers raises bare exceptions
        raise DetectorError(
            f"image-text model {str(directory)!r} has no tokenizer that can be read ({error}); "
            "put tokenizer.json, or vocab.json and merges.txt, into it"
        ) from error
    own = tokenizer.padding or {}
    filler = int(own.get("pad_id", 0)) if pad is None else pad
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def encode(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        numbers, mask = np.full((len(texts), context), filler, np.int64), np.zeros((len(texts), context), np.int64)
        for row, text in enumerate(texts):
            ids = tokenizer.encode(text).ids
            if len(ids) > context:
                raise DetectorError(f"text {text!r} has {len(ids)} tokens, the judge reads {context}; shorten it")
            numbers[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        return numbers, mask

    return encode


def clip_tokenizer(vocabulary: Mapping[str, int], merges: Sequence[str]) -> Any:
    """CLIP's byte-pair tokenizer: lower case, words closed by ``</w>``, ``<|startoftext|>`` and ``<|endoftext|>`` around the text."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    pairs = [(a, b) for a, _, b in (line.partition(" ") for line in merges if line and not line.startswith("#version")) if b]
    model = models.BPE(
        vocab=dict(vocabulary), merges=pairs, unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])]
    )
    tokenizer.enable_padding(pad_id=vocabulary[end], pad_token=end)
    return tokenizer


def _normalisation(directory: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, deviation) by ``preprocessor_config.json``; CLIP's own where it is missing."""
    try:
        told = json.loads((directory / "preprocessor_config.json").read_text(encoding="utf-8"))
        return tuple(map(float, told["image_mean"])), tuple(map(float, told["image_std"]))
    except (OSError, ValueError, KeyError, TypeError):
        return CLIP_MEAN, CLIP_STD


def _embedding(output: Any) -> NDArray[np.float64]:
    """The projected vectors, which newer releases of transformers wrap."""
    tensor = getattr(output, "pooler_output", output)
    return np.asarray(tensor.numpy(), np.float64)


def _batches(images: Images) -> list[Images]:
    if images.ndim != 4 or images.shape[1] != 3:
        raise DetectorError(f"need images (n, 3, h, w), got {images.shape}")
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
