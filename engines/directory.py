"""Read a diffusers text-to-image directory of the Stable Diffusion 1.x class: local files only, safetensors only, no code from it."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from engines.errors import MissingFileError, PipelineError, UnsafeWeightsError, UnsupportedPipelineError

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
"""Components with weights, and the one class each may have."""

SETTINGS = ("model_index.json", "scheduler/scheduler_config.json")
DEFAULTS = "audit.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True, eq=False)
class Parts:
    """What the directory holds, in float32 on the CPU, in evaluation mode."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, object]
    defaults: Mapping[str, object]
    digest: str


def read_parts(directory: Path) -> Parts:
    """Load every component.  The digest covers all files that decide what is drawn, except the recommended defaults."""
    index = read_json(directory / "model_index.json", "it names the components of a diffusers pipeline")
    for part, wanted in CLASSES.items():
        found = (cast("list[Any]", index.get(part)) or [None, None])[-1]
        if found != wanted:
            raise UnsupportedPipelineError(
                f"{directory}: {part} is {found!r}, supported is {wanted}; use a text-to-image pipeline of the Stable Diffusion 1.x class"
            )
    weights = {part: _weights(directory / part) for part in CLASSES}
    scheduler = read_json(directory / SETTINGS[1], "it says how noise and timesteps belong together")
    defaults = read_json(directory / DEFAULTS, "") if (directory / DEFAULTS).is_file() else {}
    return Parts(
        unet=_diffusers_part(directory, "unet", weights["unet"]),
        vae=_diffusers_part(directory, "vae", weights["vae"]),
        text_encoder=_text_encoder(directory / "text_encoder", weights["text_encoder"]),
        tokenizer=_tokenizer(directory / "tokenizer"),
        scheduler=scheduler,
        defaults=defaults,
        digest=_digest(directory, weights),
    )


def read_json(path: Path, why: str) -> dict[str, object]:
    """One JSON object; errors name the file."""
    if not path.is_file():
        raise MissingFileError(str(path), why)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is not valid JSON ({error}); copy the file again") from error
    if not isinstance(value, dict):
        raise PipelineError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def _weights(folder: Path) -> list[Path]:
    """The weight files of one component: full precision before a half-precision variant, shards in order."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path for path in folder.glob("*") if path.suffix in PICKLES)
        if pickled:
            raise UnsafeWeightsError(str(pickled[0]))
        raise MissingFileError(str(folder / "*.safetensors"), "the weights of this component")
    full = [path for path in found if ".fp16" not in path.name and ".non_ema" not in path.name]
    return full or found


def _diffusers_part(directory: Path, part: str, weights: list[Path]) -> nn.Module:
    import diffusers

    read_json(directory / part / "config.json", f"the architecture of the {part}")
    variant = "fp16" if ".fp16" in weights[0].name else None
    with _vendor(directory / part):
        loader: Any = getattr(diffusers, CLASSES[part])
        model = loader.from_pretrained(
            directory / part, use_safetensors=True, local_files_only=True, variant=variant, low_cpu_mem_usage=False
        )
    return cast("nn.Module", model.float().eval().requires_grad_(requires_grad=False))


def _text_encoder(folder: Path, weights: list[Path]) -> nn.Module:
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel

    config = read_json(folder / "config.json", "the architecture of the text encoder")
    with _vendor(folder):
        model: Any = CLIPTextModel(CLIPTextConfig.from_dict(config))
        stored = {key.removeprefix("text_model."): value for path in weights for key, value in load_file(path).items()}
        stored = {key: value for key, value in stored.items() if not key.endswith("position_ids")}
        prefix = "text_model." if any(key.startswith("text_model.") for key in model.state_dict()) else ""
        wanted = {key for key in model.state_dict() if not key.endswith("position_ids")}
        if wanted != {prefix + key for key in stored}:
            raise PipelineError(f"{folder}: the weights do not belong to this config.json; copy both from the same pipeline")
        model.load_state_dict({prefix + key: value for key, value in stored.items()}, strict=False)
    return cast("nn.Module", model.float().eval().requires_grad_(requires_grad=False))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    read_json(folder / "tokenizer_config.json", "it names the tokenizer's class and its special tokens")
    with _vendor(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def _vendor(where: Path) -> Iterator[None]:
    """Loader warnings concern the vendors' own files; loader errors become ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PipelineError:
        raise
    except Exception as error:  # the loaders raise whatever their own libraries do
        raise PipelineError(f"{where} cannot be loaded: {error}") from error


def _digest(directory: Path, weights: Mapping[str, list[Path]]) -> str:
    files = [directory / name for name in SETTINGS]
    files += [directory / part / "config.json" for part in CLASSES] + [path for paths in weights.values() for path in paths]
    files += [path for path in (directory / "tokenizer").iterdir() if path.is_file()]
    total = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return total.hexdigest()
