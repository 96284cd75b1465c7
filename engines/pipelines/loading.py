"""Components from local files: safetensors only, no code from the directory, and no parameter that the files do not hold."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from engines.errors import PipelineError
from engines.pipelines.files import read_json

_TEXT_CLASSES = {
    "CLIPTextModel": "CLIPTextConfig",
    "CLIPTextModelWithProjection": "CLIPTextConfig",
    "T5EncoderModel": "T5Config",
}
_RENAMED = {"Transformer2DModel": "DiTTransformer2DModel"}
"""Classes that diffusers has given another name since directories were written."""


def load_model(folder: Path, kind: str, files: list[Path]) -> nn.Module:
    """One network in float32 on the CPU, in evaluation mode, without gradients.  Raises PipelineError."""
    config = read_json(folder / "config.json", "the architecture of this component")
    with vendor(folder):
        model = _text_model(kind, config, files) if kind in _TEXT_CLASSES else _diffusers_model(folder, kind, files)
    return cast("nn.Module", cast("Any", model).float().eval().requires_grad_(requires_grad=False))


def load_tokenizer(folder: Path) -> Any:
    """A tokenizer; its settings decide how captions are padded."""
    from transformers import AutoTokenizer

    read_json(folder / "tokenizer_config.json", "it names the tokenizer's class and its special tokens")
    with vendor(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def vendor(where: Path) -> Iterator[None]:
    """Loader warnings concern the vendors' own files; loader errors become ours."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PipelineError:
        raise
    except Exception as error:  # the loaders raise whatever their own libraries do
        raise PipelineError(f"{where} cannot be loaded: {error}") from error
    finally:
        logger.setLevel(level)


def _diffusers_model(folder: Path, kind: str, files: list[Path]) -> nn.Module:
    import diffusers

    variant = "fp16" if ".fp16" in files[0].name else None
    loader: Any = getattr(diffusers, _RENAMED.get(kind, kind))
    model, told = loader.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, variant=variant, low_cpu_mem_usage=False, output_loading_info=True
    )
    _complete(folder, told["missing_keys"], told["unexpected_keys"])
    return cast("nn.Module", model)


def _text_model(kind: str, config: dict[str, object], files: list[Path]) -> nn.Module:
    import transformers
    from safetensors.torch import load_file

    model: Any = getattr(transformers, kind)(getattr(transformers, _TEXT_CLASSES[kind]).from_dict(config))
    stored = {key: value for path in files if path.suffix == ".safetensors" for key, value in load_file(path).items()}
    own: Mapping[str, Tensor] = model.state_dict()
    names = {_bare(key): key for key in own}  # releases differ in whether names begin with text_model
    found = {names.get(_bare(key), key): value for key, value in stored.items() if not key.endswith("position_ids")}
    _complete(files[0].parent, _absent(own, found), set(found) - set(own))
    model.load_state_dict(found, strict=False)
    return cast("nn.Module", model)


def _bare(key: str) -> str:
    return key.removeprefix("text_model.")


def _absent(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> set[str]:
    """Parameters that no stored tensor sets, not even one that shares their memory."""
    filled = {own[key].data_ptr() for key in found if key in own}
    return {key for key, value in own.items() if value.data_ptr() not in filled and not key.endswith("position_ids")}


def _complete(folder: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    absent, odd = sorted(missing), sorted(unexpected)
    if absent or odd:
        what = f"{len(absent)} parameters are missing ({', '.join(absent[:2]) or 'none'}), {len(odd)} unknown ({', '.join(odd[:2]) or 'none'})"
        raise PipelineError(f"{folder}: the weights do not belong to this config.json: {what}; copy both from the same pipeline")
