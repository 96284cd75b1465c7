"""Train a small text-to-image pipeline from a folder of pictures and a table of captions.

    python -m engines.training --images pictures --table captions.csv --out pipeline --device cuda --seconds 1800

To fine-tune a large pipeline instead: python -m engines.training lora --help
To train a diffusion over pixels, without captions: python -m engines.training pixels --help

The table is CSV with the columns file and caption; a file may have several rows, one caption each.  Run the same command again after
an interruption: it goes on where it was.  Exit codes: 0 done, 2 arguments or data cannot be used, 3 training failed, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.training import lora_command, pixel_command
from engines.training.console import ended, fail, progress
from engines.training.errors import TrainingError
from engines.training.options import Recipe
from engines.training.reading import read_captioned
from engines.training.train import train_pipeline

_SHARE = 0.33
"""Of the seconds, what the autoencoder gets."""

_COMMANDS = {lora_command.NAME: lora_command.main, pixel_command.NAME: pixel_command.main}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    first, usage = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="python -m engines.training", description=first, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plain = Recipe()
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--table", type=Path, required=True, metavar="CSV", help="columns file and caption")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="pipeline directory to write")
    parser.add_argument("--work", type=Path, metavar="DIR", help="checkpoints (default: OUT.work)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--image-size", type=int, default=plain.image_size, metavar="PX", help="pixels per side (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="training time; a third goes to the autoencoder")
    for name, what in (("autoencoder_steps", "most steps"), ("diffusion_steps", "most steps"), ("seed", "of weights and draws")):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=getattr(plain, name),
            metavar="N",
            help=f"{what} (default: %(default)s)",
        )
    parser.add_argument(
        "--max-tokens", type=int, default=plain.max_tokens, metavar="N", help="longest caption (default: %(default)s)"
    )
    parser.add_argument("--mirror", action="store_true", help="left-right flips as augmentation; only where they change no caption")
    parser.add_argument("--compile", action="store_true", help="compile the networks first; pays on long runs")
    return parser


def recipe_of(options: argparse.Namespace) -> Recipe:
    """What the command line asks for."""
    asked = {
        name: getattr(options, name)
        for name in ("image_size", "autoencoder_steps", "diffusion_steps", "max_tokens", "mirror", "seed")
    }
    return replace(
        Recipe(), autoencoder_seconds=_SHARE * options.seconds, diffusion_seconds=(1 - _SHARE) * options.seconds, **asked
    )


def main(given: Sequence[str] | None = None) -> int:
    """Run; the exit code is returned, errors are said in one line."""
    given = sys.argv[1:] if given is None else given
    if given and given[0] in _COMMANDS:
        return _COMMANDS[given[0]](given[1:])
    options = arguments().parse_args(given)
    work = options.work or options.out.with_name(options.out.name + ".work")
    try:
        recipe = recipe_of(options)
        data = read_captioned(options.images, options.table, image_size=recipe.image_size)
    except TrainingError as error:
        return fail(error, 2)

    def run() -> str:
        spent = train_pipeline(
            data, recipe, options.out, work=work, device=options.device, compiled=options.compile, report=progress()
        )
        seconds = spent.autoencoder.seconds + spent.diffusion.seconds
        return f"{options.out}: trained on {len(data)} images in {seconds:.0f} s"

    return ended(run)


if __name__ == "__main__":
    sys.exit(main())
