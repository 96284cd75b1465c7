"""Fine-tune a text-to-image pipeline on a folder of captioned pictures.

    python -m engines.training lora stable-diffusion-v1-5 --images pictures --out tuned --device cuda

BASE is a diffusers directory with safetensors; it is only read.  Captions are read from metadata.jsonl or metadata.csv in the folder
(columns file_name and text), or from a .txt beside each picture.  OUT is the base with the adapter merged in; OUT/adapter holds the
adapter alone.  Run the same command again after an interruption: it goes on where it was.  Exit codes: 0 done, 2 arguments, base or
data cannot be used, 3 training failed, 130 interrupted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.training.captioned import read_folder
from engines.training.console import ended, fail, progress
from engines.training.errors import TrainingError
from engines.training.lora import CHECKPOINT, LATENTS, train_lora
from engines.training.lora_options import LoraRecipe

NAME = "lora"

_NUMBERS = {
    "rank": (int, "N", "size of the adapter"),
    "alpha": (float, "A", "strength of the adapter; the rank, unless given"),
    "image_size": (int, "PX", "pixels per side; what the base draws at, unless given"),
    "steps": (int, "N", "most steps"),
    "seconds": (float, "S", "most training time"),
    "batch": (int, "N", "pictures per step"),
    "learning_rate": (float, "R", "at its peak"),
    "caption_dropout": (float, "P", "share of captions left empty"),
    "min_snr_gamma": (float, "G", "weighting of timesteps; 0 for none"),
    "ema_decay": (float, "D", "of the moving average that is written; 0 for none"),
    "seed": (int, "N", "of adapters and draws"),
}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    first, usage = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog=f"python -m engines.training {NAME}",
        description=first,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, metavar="BASE", help="diffusers directory to start from")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--table", type=Path, metavar="FILE", help="CSV or JSONL of files and captions, when not in the folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="pipeline directory to write")
    parser.add_argument("--work", type=Path, metavar="DIR", help="latents and checkpoints (default: OUT.work)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the last checkpoint, or start anew"
    )
    plain = LoraRecipe()
    for name, (kind, what, meaning) in _NUMBERS.items():
        value = getattr(plain, name)
        default = "" if value is None or value == float("inf") else " (default: %(default)s)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, metavar=what, help=meaning + default)
    parser.add_argument("--targets", nargs="+", default=plain.targets, metavar="LAYER", help="layers of the UNet that are adapted")
    parser.add_argument("--text-encoder", action="store_true", help="adapt the text encoder too")
    parser.add_argument("--mirror", action="store_true", help="left-right flips as augmentation; only where they change no caption")
    parser.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="less memory, more time; on CUDA devices, unless given",
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default=plain.precision, help="of frozen weights")
    return parser


def recipe_of(options: argparse.Namespace) -> LoraRecipe:
    """What the command line asks for."""
    asked = {name: getattr(options, name) for name in (*_NUMBERS, "text_encoder", "mirror", "precision", "gradient_checkpointing")}
    return replace(LoraRecipe(), **asked | {"targets": tuple(options.targets), "min_snr_gamma": options.min_snr_gamma or None})


def main(given: Sequence[str]) -> int:
    """Run; the exit code is returned, errors are said in one line."""
    options = arguments().parse_args(given)
    work = options.work or options.out.with_name(options.out.name + ".work")
    try:
        recipe = recipe_of(options)
        data = read_folder(options.images, options.table)
        if not options.resume:
            for name in (CHECKPOINT, LATENTS):
                (work / name).unlink(missing_ok=True)
    except (TrainingError, OSError) as error:
        return fail(error, 2)

    def run() -> str:
        done = train_lora(data, options.base, recipe, options.out, work=work, device=options.device, report=progress())
        return f"{options.out}: adapter of {done.trained_numbers:,} parameters trained on {len(data)} images in {done.spent.seconds:.0f} s"

    return ended(run)
