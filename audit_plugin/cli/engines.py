"""``audit-plugin engines``: build, list, prove and time what draws.  Thin commands over ``engines.desk``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from audit_plugin.cli.command import Output, command
from audit_plugin.cli.console import ExitCode, Form, print_rows, progress_bars, say
from audit_plugin.cli.engine_cache import CACHE_COMMANDS, CacheDirectory, engine_errors, opened_cache
from audit_plugin.cli.hidden import engines_export_hidden
from audit_plugin.config import GeneratorOptions, load
from audit_plugin.core.errors import ConfigError

if TYPE_CHECKING:  # loaded by the commands that need them
    from engines.desk.build import BuiltNetwork
    from engines.desk.place import Place
    from engines.network import Network

engines_app = typer.Typer(no_args_is_help=True, help="Build, list, prove and time the engines that draw.")
for _name, _function in CACHE_COMMANDS.items():
    engines_app.command(_name)(_function)
engines_app.command("export-hidden")(engines_export_hidden)

Configuration = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML configuration.", show_default=False)]
PipelineDirectory = Annotated[
    Path | None, typer.Option("--pipeline", help="Diffusers directory, in place of a configuration.", show_default=False)
]
BackendName = Annotated[str | None, typer.Option("--backend", help="auto, or one by name.", show_default=False)]
DeviceName = Annotated[Literal["cpu", "cuda"] | None, typer.Option("--device", help="Where to run.", show_default=False)]
PrecisionName = Annotated[
    Literal["fp32", "tf32", "fp16", "bf16"] | None, typer.Option("--precision", help="What to compute in.", show_default=False)
]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; all by default.", min=1, show_default=False)]


@engines_app.command("build")
@command
def engines_build(
    config: Configuration = None,
    *,
    pipeline: PipelineDirectory = None,
    backend: BackendName = None,
    device: DeviceName = None,
    precision: PrecisionName = None,
    batch: Annotated[int | None, typer.Option(help="Rows that speed is compared at.", min=1, show_default=False)] = None,
    most: Annotated[bool, typer.Option("--max", help="Let TensorRT search at its highest level; takes many times longer.")] = False,
    keep_graphs: Annotated[
        bool,
        typer.Option(
            "--keep-graphs",
            help="Keep the graphs, without weights, beside the generator; ONNX Runtime on a CPU then needs no export.",
        ),
    ] = False,
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Build and certify the engines of a generator, so that no audit waits for them."""
    options = _options(config, pipeline, backend=backend, device=device, precision=precision, batch=batch, cache=cache)
    with engine_errors(), progress_bars() as progress:
        from engines.desk.build import build_all

        if keep_graphs:
            from engines.pipelines.outlines import check_place

            check_place(Path(options.path))
        asked = _asked(options, most=most)
        built = list(build_all(asked.networks, asked.place, options.backend, options.batch, progress))
    print_rows([_told(each) for each in built], output)
    if keep_graphs:
        with engine_errors():
            from engines.pipelines.outlines import keep_outlines

            for kept in keep_outlines(Path(options.path), asked.networks, asked.place.cache):
                say(f"graph kept in {kept}")
    return ExitCode.CLEAN


def _told(built: "BuiltNetwork") -> Mapping[str, object]:
    row = asdict(built)
    certificate = row.pop("certificate") or {}
    judged = {name: certificate.get(name) for name in ("error", "batch_error", "gradient_error", "gradient_cosine")}
    return {**row, **judged, "refused": "; ".join(built.refused)}


@engines_app.command("bench")
@command
def engines_bench(
    config: Configuration = None,
    *,
    pipeline: PipelineDirectory = None,
    batches: Annotated[str, typer.Option(help="Batch sizes, with commas between them.")] = "1,8,32",
    backend: BackendName = None,
    device: DeviceName = None,
    precision: PrecisionName = None,
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Time every backend on a generator's networks, beside the least time that this machine could take."""
    options, sizes = _options(config, pipeline, backend=backend, device=device, precision=precision, cache=cache), _sizes(batches)
    with engine_errors(), progress_bars() as progress:
        from engines.desk.bench import time_all
        from engines.desk.selfcheck import machine_facts

        asked = _asked(options)
        say(machine_facts())
        rows = [asdict(each) for each in time_all(asked.networks, asked.place, sizes, options.backend, progress)]
    print_rows(rows, output)
    return ExitCode.CLEAN


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--batches {text!r}: give whole numbers from 1 on, such as 1,8,32")
    return tuple(int(part) for part in parts)


@engines_app.command("selfcheck")
@command
def engines_selfcheck(
    backend: BackendName = None,
    device: DeviceName = None,
    threads: Threads = None,
    output: Output = Form.TABLE,
) -> int:
    """Prove every backend on this machine: build small networks, certify, bind and time them.  Exit code 0 unless one fails."""
    with engine_errors(), progress_bars() as progress:
        from engines.desk.selfcheck import DEVICES, machine_facts, selfcheck

        say(machine_facts())
        devices = DEVICES if device is None else (device,)
        checks = list(selfcheck(devices=devices, only=backend, threads=threads, progress=progress))
    if not checks:
        raise ConfigError(f"there is no backend {backend!r}; leave --backend away to see all")
    print_rows([asdict(check) for check in checks], output)
    return ExitCode.COULD_NOT_RUN if any(check.verdict == "FAIL" for check in checks) else ExitCode.CLEAN


@engines_app.command("export-triton")
@command
def engines_export_triton(
    config: Configuration = None,
    *,
    repo: Annotated[Path, typer.Option("--repo", help="Model repository of the server.", show_default=False)],
    pipeline: PipelineDirectory = None,
    classifier: Annotated[Path | None, typer.Option(help="ONNX file whose gradients are served too.", show_default=False)] = None,
    platform: Annotated[
        Literal["python", "onnxruntime", "tensorrt"], typer.Option(help="What the server runs them by.")
    ] = "python",
    batches: Annotated[str, typer.Option(help="Batch sizes that the server prepares for.")] = "1,2,4,8,16",
    device: DeviceName = None,
    precision: PrecisionName = None,
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Write a generator's engines as models of a Triton server; all are built and certified first."""
    options, sizes = _options(config, pipeline, device=device, precision=precision, cache=cache), _sizes(batches)
    if platform == "tensorrt" and options.device != "cuda":
        raise ConfigError("platform tensorrt runs on a GPU only; give --device cuda")
    with engine_errors(), progress_bars() as progress:
        from engines.serving.export import export_triton

        progress(0, 1, "models")
        written = export_triton(
            Path(options.path),
            repo,
            classifier=classifier,
            platform=platform,
            buckets=sizes,
            device=options.device,
            cache=opened_cache(Path(options.cache) if options.cache else None).root,
            precision=options.precision,
        )
        progress(1, 1, "models")
    print_rows([{"model": folder.name, "directory": str(folder)} for folder in written], output)
    return ExitCode.CLEAN


@engines_app.command("export-vjp")
@command
def engines_export_vjp(
    config: Annotated[Path, typer.Argument(help="Configuration whose model it is.", show_default=False)],
    *,
    model: Annotated[str, typer.Option(help="Audited model whose gradient is to be served.", show_default=False)],
    file: Annotated[
        Path, typer.Option(help="The file that the server runs: ONNX, TorchScript or torch.export.", show_default=False)
    ],
    repo: Annotated[Path, typer.Option("--repo", help="Model repository of the server.", show_default=False)],
    platform: Annotated[Literal["python", "onnxruntime"], typer.Option(help="What the server runs it by.")] = "python",
    batches: Annotated[str, typer.Option(help="Batch sizes that the server prepares for.")] = "1,2,4,8,16",
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Write the gradient of an audited classifier as a model of its server, <model>_vjp; nothing is written for another model's file.

    It is used once the server has loaded it.
    """
    from audit_plugin.wiring import export_vjp

    with engine_errors(), progress_bars() as progress:
        progress(0, 1, "gradient model")
        folder = export_vjp(load(config), model, file, repo, platform=platform, batches=_sizes(batches), cache=cache)
        progress(1, 1, "gradient model")
    print_rows([{"model": folder.name, "directory": str(folder)}], output)
    say(
        f"the server has to load {folder.name} before it is used: with --model-control-mode=explicit by --load-model={folder.name} or "
        f"POST /v2/repository/models/{folder.name}/load, with poll by itself, with none (the default) when it starts again"
    )
    return ExitCode.CLEAN


@dataclass(frozen=True)
class _Asked:
    networks: "tuple[Network, ...]"
    place: "Place"


def _options(config: Path | None, pipeline: Path | None, **given: object) -> GeneratorOptions:
    """The configured generator, or a directory; what is given here goes before the configuration."""
    if (config is None) == (pipeline is None):
        raise ConfigError("give a configuration, or --pipeline with a diffusers directory")
    options = GeneratorOptions(path=str(pipeline)) if config is None else load(config).generator
    given = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
    return replace(options, **given)  # type: ignore[arg-type]


def _asked(options: GeneratorOptions, *, most: bool = False) -> _Asked:
    from audit_plugin.wiring import drawing_threads
    from engines.desk.pipelines import read_networks
    from engines.desk.place import Place
    from engines.pipelines.outlines import KeptGraphs

    builds = opened_cache(Path(options.cache) if options.cache else None)
    place = Place(builds, options.device, drawing_threads(options), most, options.served, KeptGraphs(Path(options.path)))
    return _Asked(read_networks(Path(options.path), options.precision), place)
