"""A graph as the exporter writes it, through the whole backend."""

from dataclasses import replace

import onnx
import torch

from engines.backends.eager import EagerBackend
from engines.backends.trt.backend import default_export
from engines.backends.trt.request import BuildOptions
from engines.parity import certify
from engines.spec import Profile
from tests.engines.trt import fake
from tests.engines.trt.networks import BLOCK, Block, block_feeds


def test_an_exported_network_is_certified_and_takes_new_weights(make_backend):
    """With attention as one operator, and every weight of another module by the exporter's own map."""
    spec = replace(BLOCK, profile=Profile(3, 3, 3))
    backend = make_backend(fake.make(11), export=default_export, options=BuildOptions(refit=True))
    engine = backend.build(Block(), spec)
    graph = backend.cache.root / replace(spec, opset=23).key() / "model.onnx"
    assert {"Attention", "GroupNormalization"} <= {node.op_type for node in onnx.load(graph).graph.node}
    certificate = certify(engine, EagerBackend().build(Block(), spec), [block_feeds(rows) for rows in (3, 1)])
    assert certificate.failure is None
    engine.refit(dict(Block(1).named_parameters()))
    torch.testing.assert_close(engine.run(block_feeds(3))["y"], Block(1)(**block_feeds(3)), atol=1e-5, rtol=1e-4)
