"""Small networks; one of them also as an ONNX graph written by hand, since exporters take seconds."""

import json

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from engines.spec import EngineSpec, Profile, TensorSpec

SPEC = EngineSpec(
    name="small",
    inputs=(TensorSpec("x", "float32", ("B", 2, 6)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 2, 6)),),
    profile=Profile(1, 4, 8),
    model_hash="a" * 64,
)


class Small(nn.Module):
    """y = t (q x + k x) + bias; the builder of the fake merges q and k."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.q, self.k = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.bias = nn.Parameter(torch.randn(6))
        self.requires_grad_(requires_grad=False)

    def forward(self, x, t):
        return t[:, None, None] * (self.q(x) + self.k(x)) + self.bias


def feeds(rows, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(rows, 2, 6, generator=generator), "t": torch.rand(rows, generator=generator)}


def write_graph(module, spec, folder, *, kind=TensorProto.FLOAT, extra=()):
    """As exporters do: linear weights transposed, and a map of which initialiser is which parameter."""
    half = kind == TensorProto.FLOAT16
    values = {
        "merged.q": module.q.weight.T,
        "merged.k": module.k.weight.T,
        "bias": module.bias,
    }
    arrays = {name: (value.half() if half else value).contiguous().numpy() for name, value in values.items()}
    initialisers = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(torch.tensor([1, 2]).numpy())),
        helper.make_node("MatMul", ["x", "merged.q"], ["xq"], "to_q"),
        helper.make_node("MatMul", ["x", "merged.k"], ["xk"], "to_k"),
        helper.make_node("Add", ["xq", "xk"], ["sum"], "sum"),
        helper.make_node("Unsqueeze", ["t", "axes"], ["t3"], "rows"),
        helper.make_node("Mul", ["t3", "sum"], ["scaled"], "scale"),
        *(helper.make_node(op, ["scaled"], [f"unused_{op}"], f"odd_{op}") for op in extra),
        helper.make_node("Add", ["scaled", "bias"], ["y"], "last"),
    ]
    batch = spec.profile.max_b if spec.profile.static else "B"
    graph = helper.make_graph(
        nodes,
        spec.name,
        [helper.make_tensor_value_info("x", kind, [batch, 2, 6]), helper.make_tensor_value_info("t", kind, [batch])],
        [helper.make_tensor_value_info("y", kind, [batch, 2, 6])],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", spec.opset)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    known = {"merged.q": ["q.weight", "transpose"], "merged.k": ["k.weight", "transpose"], "bias": ["bias", "identity"]}
    (folder / "weights.json").write_text(json.dumps(known))


class Block(nn.Module):
    """Convolution, group norm, attention and a linear layer, rows at their own time."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm, self.mix = nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(4, 4)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, x, t):
        tokens = self.norm(self.conv(x) * t[:, None, None, None].cos()).flatten(2).transpose(1, 2)[:, None]
        return self.mix(functional.scaled_dot_product_attention(tokens, tokens, tokens)).mean((1, 2))


BLOCK = EngineSpec(
    name="block",
    inputs=(TensorSpec("x", "float32", ("B", 2, 4, 4)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 4)),),
    profile=Profile(1, 4, 8),
    model_hash="e" * 64,
)


def block_feeds(rows):
    return {"x": torch.randn(rows, 2, 4, 4, generator=torch.Generator().manual_seed(rows)), "t": torch.linspace(0, 3, rows)}


class Still(Block):
    """Whose time is the mean of its input."""

    def forward(self, x):
        return super().forward(x, x.flatten(1).mean(1))
