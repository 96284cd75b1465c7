"""Train a diffusion over pixels, for guided counterfactuals, on pictures without captions.

    python -m engines.training pixels --images pictures --out pixels --device cuda --seconds 3600

PICTURES is a folder, or a uint8 array (n, h, w, 3) in an .npy file: squares of one size, all RGB or all grey.  Run the same command again
after an interruption: it goes on where it was; with more --steps or --seconds a finished run goes on too.  Exit codes: 0 done, 2 arguments
or data cannot be used, 3 training failed, 130 interrupted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.training.console import ended, fail, progress
from engines.training.errors import TrainingError
from engines.training.pixel_data import check_pictures, read_pictures
from engines.training.pixel_options import PixelRecipe
from engines.training.pixels import train_pixels

NAME = "pixels"

_NUMBERS = {
    "layers": (int, "N", "residual blocks per resolution"),
    "steps": (int, "N", "most steps"),
    "seconds": (float, "S", "most training time"),
    "batch": (int, "N", "pictures per step"),
    "learning_rate": (float, "R", "at its peak"),
    "min_snr_gamma": (float, "G", "weighting of timesteps; 0 for none"),
    "ema_decay": (float, "D", "of the moving average that is written"),
    "seed": (int, "N", "of weights and draws"),
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
    plain = PixelRecipe()
    parser.add_argument("--images", type=Path, required=True, metavar="PICTURES", help="folder, or .npy file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    parser.add_argument("--work", type=Path, metavar="DIR", help="checkpoint (default: OUT.work)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=plain.channels, metavar="N", help="width per resolution (default: %(default)s)"
    )
    for name, (kind, what, meaning) in _NUMBERS.items():
        value = getattr(plain, name)
        default = "" if value == float("inf") else " (default: %(default)s)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, metavar=what, help=meaning + default)
    parser.add_argument("--mirror", action="store_true", help="left-right flips as augmentation")
    parser.add_argument("--compile", action="store_true", help="compile the network first; pays on long runs")
    parser.add_argument(
        "--snapshot", action="store_true", help="train nothing: write what the last checkpoint holds, also while a run goes on"
    )
    return parser


def recipe_of(options: argparse.Namespace) -> PixelRecipe:
    """What the command line asks for."""
    asked = {name: getattr(options, name) for name in (*_NUMBERS, "mirror")}
    return replace(PixelRecipe(), **asked | {"channels": tuple(options.channels), "min_snr_gamma": options.min_snr_gamma or None})


def main(given: Sequence[str]) -> int:
    """Run; the exit code is returned, errors are said in one line."""
    options = arguments().parse_args(given)
    work = options.work or options.out.with_name(options.out.name + ".work")
    try:
        recipe = recipe_of(options)
        pictures = read_pictures(options.images)
        check_pictures(pictures, recipe.shrinking)
    except (TrainingError, OSError) as error:
        return fail(error, 2)

    def run() -> str:
        spent = train_pixels(
            pictures,
            recipe,
            options.out,
            work=work,
            device=options.device,
            compiled=options.compile,
            snapshot=options.snapshot,
            report=progress(),
        )
        return f"{options.out}: {spent.steps} steps on {len(pictures)} pictures in {spent.seconds:.0f} s"

    return ended(run)
