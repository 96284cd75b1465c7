"""The backend ``triton`` against a real server that runs the graph of a small network."""

import threading
from dataclasses import replace

import pytest
import torch

from audit_plugin.demo.server import TritonServer
from engines.backends.eager import EagerBackend
from engines.backends.triton import TritonBackend
from engines.build import Builder
from engines.cache import BuildCache
from engines.errors import (
    BackendUnavailableError,
    ClosedEngineError,
    FeedError,
    NotRefittableError,
    ServedModelError,
    ServerError,
)
from engines.graphs.export import export_onnx
from engines.parity import certify, relative_error
from engines.serving.config import graph_config
from engines.serving.identity import engine_key
from engines.serving.repository import WrittenModel, write_models
from engines.serving.resources import python_model
from engines.serving.wire import Endpoint
from engines.spec import Profile, TensorSpec
from tests.engines.serving.networks import WAVE, Wave, wave_feeds

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def wave():
    return Wave().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def repository(wave, tmp_path_factory):
    """``audit_wave``, at most four rows a request, and ``audit_bare``, whose weights are not there."""
    folder = tmp_path_factory.mktemp("remote")
    export_onnx(wave, WAVE, folder / "model.onnx")
    bare = replace(WAVE, name="bare")
    models = [
        WrittenModel(
            name=f"audit_{spec.name}",
            config=graph_config(spec, "python", (1, 4), "cpu", tier="exact", about={}),
            files=files | {"model.py": python_model("graph")},
        )
        for spec, files in ((WAVE, {"model.onnx": folder / "model.onnx"}), (bare, {}))
    ]
    write_models(folder / "repository", models)
    return folder / "repository"


@pytest.fixture(scope="module")
def server(triton_kit, repository, tmp_path_factory):
    with TritonServer(repository, kit=triton_kit, log_file=tmp_path_factory.mktemp("remote-log") / "log") as server:
        yield server
        server.kill()  # a polite end takes seconds


def backend(server, **options):
    return TritonBackend(endpoint=Endpoint(url=server.grpc_url, deadline_seconds=20), **options)


@pytest.fixture
def engine(server, wave):
    engine = backend(server).build(wave, WAVE)
    yield engine
    engine.close()


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 64])
def test_numbers_are_those_of_the_module(engine, wave, rows):
    """Also where the batch is cut into several requests, which come back in order."""
    right = EagerBackend().build(wave, WAVE).run(wave_feeds(rows))["y"]
    assert relative_error(engine.run(wave_feeds(rows))["y"], right) < 1e-5


def test_it_is_certified_like_any_other(engine, wave):
    certificate = certify(engine, EagerBackend().build(wave, WAVE), [wave_feeds(rows) for rows in (8, 3, 1)])
    assert certificate.passed, certificate.failure
    assert (certificate.backend, certificate.deterministic) == ("triton", True)


def test_the_builder_takes_it(server, wave, tmp_path):
    """Pinned by name, with the certificate kept in the cache; nothing is exported for it."""
    reference, remote = EagerBackend(threads=1), backend(server)
    builder = Builder(
        reference=reference, backends=(reference, remote), cache=BuildCache(tmp_path), rows=4, where={"server": server.grpc_url}
    )
    engine, choice = builder.build(wave, WAVE, "triton", lambda: [wave_feeds(rows) for rows in (4, 1)])
    assert (choice.name, engine.certificate.passed) == ("triton", True)
    assert not list(tmp_path.rglob("*.onnx"))
    engine.close()


def test_bound_feeds_are_read_when_it_is_replayed(engine):
    feeds, outs = wave_feeds(4), {"y": torch.empty(4, 4, 8, 8)}
    replay = engine.bind(feeds, outs)
    feeds["x"].mul_(2)
    replay()
    torch.testing.assert_close(outs["y"], engine.run(feeds)["y"], rtol=0, atol=0)


def test_it_closes_once_and_takes_no_weights(server):
    engine = backend(server).load(None, WAVE)
    with pytest.raises(NotRefittableError, match="takes no weights from clients"):
        engine.refit({})
    engine.close()
    engine.close()
    with pytest.raises(ClosedEngineError):
        engine.run(wave_feeds(1))


def test_wrong_feeds_never_reach_the_server(engine):
    with pytest.raises(FeedError, match="float32"):
        engine.run({"x": wave_feeds(1)["x"].double(), "t": torch.zeros(1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_hash": "f" * 64}, "has the engine key"),
        ({"precision": "bf16"}, "has the engine key"),
        ({"outputs": (TensorSpec("y", "float32", ("B", 4, 8, 9)),)}, r"output 'y' is TYPE_FP32 \[4, 8, 8\], wanted is TYPE_FP32"),
        ({"outputs": (TensorSpec("z", "float32", ("B", 4, 8, 8)),)}, "output 'z' is absent"),
        ({"inputs": (*WAVE.inputs[:1], TensorSpec("t", "int64", ("B",)))}, r"input 't' is TYPE_FP32 \[1\], wanted is TYPE_INT64"),
        ({"name": "absent"}, "does not serve model 'audit_absent'"),
    ],
)
def test_another_network_is_refused(server, wave, change, message):
    """Before anything is asked of it."""
    with pytest.raises(ServedModelError, match=message):
        backend(server).build(wave, replace(WAVE, **change))


def test_batches_and_opset_do_not_matter(server, wave):
    """A client knows neither the server's buckets nor its graph."""
    other = replace(WAVE, profile=Profile(1, 2, 3), opset=21)
    assert engine_key(other) == engine_key(WAVE)
    engine = backend(server).build(wave, other)
    assert engine.run(wave_feeds(3))["y"].shape == (3, 4, 8, 8)
    engine.close()


def test_another_version_is_refused(server, wave):
    with pytest.raises(ServedModelError, match="served in version 1, asked for is 7"):
        backend(server, version="7").build(wave, WAVE)


def test_models_may_be_called_otherwise(server, wave):
    with pytest.raises(ServedModelError, match="engine key"):
        backend(server, models={"wave": "audit_bare"}).build(wave, WAVE)


def test_a_model_without_weights_says_how_to_get_them(server, wave):
    """It is ready, so that its repository can be served, and refuses."""
    spec = replace(WAVE, name="bare")
    engine = backend(server).build(wave, spec)
    with pytest.raises(ServerError, match=r"weights of audit_bare are not in this repository.*export-triton --repo"):
        engine.run(wave_feeds(2))
    engine.close()


def test_probes_have_reasons(server, wave):
    """Without an endpoint, without a server, and with one."""
    assert "no server is configured" in TritonBackend().probe().reason
    away = TritonBackend(endpoint=Endpoint(url="127.0.0.1:1", deadline_seconds=1))
    assert "cannot be reached" in away.unusable(WAVE)
    assert backend(server).unusable(WAVE) is None
    narrow = replace(WAVE, outputs=(TensorSpec("y", "bfloat16", ("B", 4, 8, 8)),))
    assert "y would have to cross the network in bfloat16" in backend(server).unusable(narrow)
    with pytest.raises(BackendUnavailableError, match="no server is configured"):
        TritonBackend().build(wave, WAVE)


def test_several_requests_are_under_way(server, wave):
    """Sixteen requests of four rows never take more threads than allowed, and are answered in order."""
    others = set(threading.enumerate())
    engine = backend(server, concurrency=3).build(wave, WAVE)
    found = engine.run(wave_feeds(64))["y"]
    own = [each for each in set(threading.enumerate()) - others if each.name.startswith("engine-triton")]
    assert 2 <= len(own) <= 3
    torch.testing.assert_close(found, wave(*wave_feeds(64).values()), atol=1e-5, rtol=1e-5)
    engine.close()


def test_a_killed_server_is_said_and_its_return_is_noticed(triton_kit, repository, wave, tmp_path):
    """The next run after a failure checks again who is there."""
    with TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log") as server:
        engine = backend(server).build(wave, WAVE)
        before = engine.run(wave_feeds(9))["y"]
        server.kill()
        with pytest.raises(ServerError, match=r"cannot be reached.*check that it runs"):
            engine.run(wave_feeds(9))
        server.start()
        torch.testing.assert_close(engine.run(wave_feeds(9))["y"], before, rtol=0, atol=0)
        engine.close()


def test_after_a_failure_another_network_is_not_trusted(triton_kit, repository, wave, tmp_path):
    """The server comes back with a model of the same name and tensors, but of other weights."""
    graph = repository / "audit_wave" / "1" / "model.onnx"

    def write(spec):
        config = graph_config(spec, "python", (4,), "cpu", tier="exact", about={})
        files = {"model.onnx": graph, "model.py": python_model("graph")}
        write_models(tmp_path / "repository", [WrittenModel(name="audit_wave", config=config, files=files)])

    write(WAVE)
    with TritonServer(tmp_path / "repository", kit=triton_kit, log_file=tmp_path / "log") as server:
        engine = backend(server).build(wave, WAVE)
        server.kill()
        with pytest.raises(ServerError):
            engine.run(wave_feeds(1))
        write(replace(WAVE, model_hash="f" * 64))
        server.start()
        with pytest.raises(ServedModelError, match="engine key"):
            engine.run(wave_feeds(1))
        engine.close()
