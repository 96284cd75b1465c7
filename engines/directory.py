"""Read a pipeline directory: local files only, safetensors or ONNX only, no code from it.

Which families of diffusers' directories: ``engines.pipelines.families``; exported noise networks: ``engines.pipelines.exported``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import nn

from engines.errors import PipelineError, UnsupportedPipelineError
from engines.pipelines.cards import card_of, exported_digest, is_exported
from engines.pipelines.exported import read_exported
from engines.pipelines.families import (
    DDPM,
    EXPORTED,
    STABLE_DIFFUSION,
    Family,
    check_autoencoder,
    check_network,
    components,
    family_of,
)
from engines.pipelines.files import PICKLES, check_pin, digest_files, read_json, weight_files
from engines.pipelines.loading import load_model, load_tokenizer

__all__ = ["DEFAULTS", "PICKLES", "Parts", "directory_digest", "read_json", "read_parts"]

INDEX = "model_index.json"
SCHEDULER = "scheduler_config.json"
DEFAULTS = "audit.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """What the directory holds; networks in float32 on the CPU, in evaluation mode."""

    models: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Any]
    scheduler: Mapping[str, object]
    defaults: Mapping[str, object]
    digest: str
    family: Family = STABLE_DIFFUSION
    settings: Mapping[str, object] = field(default_factory=dict)
    """The rest of model_index.json."""

    @property
    def network(self) -> Any:
        """What denoises, whatever its kind."""
        return self.models[self.family.network]

    @property
    def unet(self) -> Any:
        """The UNet."""
        return self.models["unet"]

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.models["vae"]

    @property
    def text_encoder(self) -> Any:
        """The first text encoder."""
        return self.models["text_encoder"]

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer."""
        return self.tokenizers["tokenizer"]


@dataclass(frozen=True)
class _Layout:
    """Where everything lies."""

    directory: Path
    family: Family
    index: Mapping[str, object]
    kinds: Mapping[str, str]
    folders: Mapping[str, Path]
    weights: Mapping[str, list[Path]]
    scheduler: Path

    @property
    def tokenizers(self) -> dict[str, Path]:
        return {name: self.directory / name for name in self.family.tokenizers if name in self.kinds}

    @property
    def files(self) -> list[Path]:
        """All that decide what is drawn."""
        index = self.directory / INDEX
        found = [self.scheduler, *([index] if index.is_file() else [])]
        found += [folder / "config.json" for folder in self.folders.values()] + [
            path for each in self.weights.values() for path in each
        ]
        return found + [path for folder in self.tokenizers.values() for path in folder.iterdir() if path.is_file()]


def read_parts(directory: Path, pin: str | None = None) -> Parts:
    """Load every component.  The digest covers all files that decide what is drawn, except the recommended defaults.

    With a pin, nothing is read into a network unless the digest is that.  Raises PipelineError.
    """
    defaults = _defaults(directory)
    if is_exported(defaults):
        return _exported(directory, exported_digest(directory, defaults), pin)
    layout = _layout(directory)
    scheduler = read_json(layout.scheduler, "it says how noise and timesteps belong together")
    digest = digest_files(directory, layout.files)
    check_pin(directory, digest, pin)
    parts = Parts(
        models={part: load_model(layout.folders[part], layout.kinds[part], files) for part, files in layout.weights.items()},
        tokenizers={name: load_tokenizer(folder) for name, folder in layout.tokenizers.items()},
        scheduler=scheduler,
        defaults=defaults,
        digest=digest,
        family=layout.family,
        settings={key: value for key, value in layout.index.items() if not isinstance(value, list)},
    )
    _check_tokenizers(parts)
    return parts


def directory_digest(directory: str | Path) -> str:
    """What to pin: the digest of a directory, without loading it."""
    folder = Path(directory)
    defaults = _defaults(folder)
    return exported_digest(folder, defaults) if is_exported(defaults) else digest_files(folder, _layout(folder).files)


def picture_side(directory: Path) -> int:
    """Side in pixels of the square pictures that a directory draws, without loading it.  Raises PipelineError."""
    if is_exported(defaults := _defaults(directory)):
        return card_of(directory, defaults).size[0]
    layout = _layout(directory)
    config = read_json(layout.folders[layout.family.network] / "config.json", "the architecture of the network")
    size = config.get("sample_size")
    side = size[0] if isinstance(size, list) and size else size
    if not isinstance(side, int):
        raise PipelineError(f"{directory} does not say how large it draws (sample_size of its network)")
    if not layout.family.latent:
        return side
    blocks = read_json(layout.folders["vae"] / "config.json", "the architecture of the vae").get("block_out_channels")
    return side * 2 ** (len(blocks) - 1) if isinstance(blocks, list) else side


def _defaults(directory: Path) -> dict[str, object]:
    return read_json(directory / DEFAULTS, "") if (directory / DEFAULTS).is_file() else {}


def _exported(directory: Path, found: str, pin: str | None) -> Parts:
    check_pin(directory, found, pin)
    read = read_exported(directory)
    return Parts(
        models={EXPORTED.network: read.denoiser},
        tokenizers={},
        scheduler=read.scheduler,
        defaults=read.defaults,
        digest=found,
        family=EXPORTED,
    )


def _layout(directory: Path) -> _Layout:
    index = _index(directory)
    family, kinds = family_of(index), components(index)
    parts = [part for part in family.models if part in kinds]
    folders = {part: _folder(directory, part, family) for part in parts}
    configs = {part: read_json(folder / "config.json", f"the architecture of the {part}") for part, folder in folders.items()}
    if family.latent:
        check_autoencoder(configs["vae"])
    latent = cast("int | None", configs["vae"].get("latent_channels", 4)) if family.latent else None
    check_network(family, configs[family.network], latent)
    found = _Layout(
        directory=directory,
        family=family,
        index=index,
        kinds=kinds,
        folders=folders,
        weights={part: weight_files(folder) for part, folder in folders.items()},
        scheduler=_scheduler(directory),
    )
    for name, folder in found.tokenizers.items():
        read_json(folder / "tokenizer_config.json", f"it names the class of the {name} and its special tokens")
    return found


def _index(directory: Path) -> dict[str, object]:
    """The content of model_index.json; a directory that holds nothing but a UNet2DModel may do without."""
    if directory.is_file():
        raise UnsupportedPipelineError(f"{directory} is a file; unpack it into a directory (diffusers: `save_pretrained`)")
    bare = directory / "config.json"
    if not (directory / INDEX).is_file() and bare.is_file():
        kind = read_json(bare, "").get("_class_name")
        if kind in DDPM.models["unet"]:
            return {"unet": ["diffusers", kind]}
        raise UnsupportedPipelineError(f"{bare} describes a {kind} alone; only a UNet2DModel can be drawn from without a {INDEX}")
    return read_json(directory / INDEX, "it names the components of a diffusers pipeline")


def _folder(directory: Path, part: str, family: Family) -> Path:
    """Older directories with one network keep it at the top."""
    folder = directory / part
    return directory if family is DDPM and not folder.is_dir() and (directory / "config.json").is_file() else folder


def _scheduler(directory: Path) -> Path:
    top, usual = directory / SCHEDULER, directory / "scheduler" / SCHEDULER
    return top if top.is_file() and not usual.is_file() else usual


def _check_tokenizers(parts: Parts) -> None:
    """A tokenizer of another text encoder would draw other words, or reach past its vocabulary."""
    for name, tokenizer in parts.tokenizers.items():
        encoder: Any = parts.models[name.replace("tokenizer", "text_encoder")]
        config = encoder.config
        if len(tokenizer) > config.vocab_size:
            raise PipelineError(
                f"{name} has {len(tokenizer)} tokens, its text encoder knows {config.vocab_size}; copy both from the same pipeline"
            )
        if tokenizer.pad_token_id is None:
            raise PipelineError(f"{name} has no padding token; set pad_token in its tokenizer_config.json as its pipeline does")
        if config.model_type.startswith("clip") and config.eos_token_id not in {tokenizer.eos_token_id, _LEGACY_EOS}:
            raise PipelineError(
                f"{name} ends captions with token {tokenizer.eos_token_id}, its text encoder expects {config.eos_token_id}; "
                "copy both from the same pipeline"
            )


_LEGACY_EOS = 2
"""Older configurations of CLIP say this whatever the vocabulary is; the end is then found as the highest token."""
