"""Specs of the test networks, inputs for them, and runs of their graphs."""

from collections.abc import Mapping

import torch

from engines.spec import TORCH_TYPES, EngineSpec, Profile, TensorSpec

LATENT, IMAGE, CONTEXT = (4, 8, 8), (3, 16, 16), (6, 16)


def tensors(**rows):
    """Tensor specs with a batch in front; what is not float32 is given as (type, sizes)."""
    given = {name: row if row and row[0] in TORCH_TYPES else ("float32", row) for name, row in rows.items()}
    return tuple(TensorSpec(name, kind, ("B", *row)) for name, (kind, row) in given.items())


def spec_of(name, kind, inputs, outputs, **options):
    gradients = tuple(each.name for each in outputs if each.name == "grad")
    defaults = {"profile": Profile(1, 8, 32), "model_hash": "0" * 64, "gradients": gradients}
    return EngineSpec(**{"name": name, "kind": kind, "inputs": inputs, "outputs": outputs, **defaults, **options})


DENOISER = spec_of("denoiser", "forward", tensors(x=LATENT, t=(), context=CONTEXT), tensors(y=LATENT))
VJP = spec_of("classifier", "vjp", tensors(x=IMAGE, cotangent=(5,)), tensors(y=(5,), grad=IMAGE))
SMOOTH = spec_of("smooth", "forward", tensors(x=(3, 4, 4)), tensors(y=(5,)))
SMOOTH_VJP = spec_of("smooth", "vjp", tensors(x=(3, 4, 4), cotangent=(5,)), tensors(y=(5,), grad=(3, 4, 4)))
GUIDED = spec_of(
    "guided",
    "guided",
    tensors(x=LATENT, t=(), alpha_bar=(), target=("int64", ()), weight=(), context=CONTEXT),
    tensors(loss=(), eps=LATENT, x0=LATENT, grad=LATENT),
)


def draw(spec, rows, seed=0) -> Mapping[str, torch.Tensor]:
    """Inputs as networks meet them: normal numbers, timesteps, shares of variance, classes."""
    chance = torch.Generator().manual_seed(1000 * seed + rows)
    special = {
        "t": 999 * torch.rand(rows, generator=chance),
        "alpha_bar": 0.1 + 0.8 * torch.rand(rows, generator=chance),
        "target": torch.randint(0, 5, (rows,), generator=chance),
    }
    return {
        each.name: special.get(each.name, torch.randn(rows, *each.row, generator=chance)).to(TORCH_TYPES[each.dtype])
        for each in spec.inputs
    }


def session(folder):
    """The graph of an export folder on ONNX Runtime, from named tensors to named tensors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    runtime = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in runtime.get_outputs()]

    def run(feeds):
        found = runtime.run(names, {name: value.numpy() for name, value in feeds.items()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

    return run


def right(module, spec, feeds):
    """What the module itself computes."""
    values = module(*feeds.values())
    return dict(zip((each.name for each in spec.outputs), values if isinstance(values, tuple) else (values,), strict=True))


def relative(ours, theirs):
    """||a - b|| / ||b|| over all rows, in float64."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def cosine(ours, theirs):
    """Smallest over rows."""
    return float(torch.nn.functional.cosine_similarity(ours.double().flatten(1), theirs.double().flatten(1)).min())
