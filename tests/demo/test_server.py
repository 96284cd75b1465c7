"""The bundled Triton starts, stops, crashes and comes back as asked."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper

from audit_plugin.core.errors import ConfigError
from audit_plugin.demo import kit as kits
from audit_plugin.demo.kit import KitError, ServerUnsupportedError, ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import Ports, ServerStartError, TritonServer
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.fixtures.networks import LABELS, colour_network, expected_probabilities


@pytest.fixture
def repository(tmp_path) -> Path:
    network = colour_network(tmp_path / "colours.onnx")
    write_model(tmp_path / "repository", "colours", network, LABELS, max_batch=2)
    return tmp_path / "repository"


def stat_of(pid: int) -> list[str]:
    """State, parent and group of a process; a zombie's if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
        return ["Z", "0", "0"]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    return stat_of(pid)[0] != "Z"


def group_of(leader: int) -> list[int]:
    """Processes of the group that ``leader`` leads."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if is_alive(pid) and int(stat_of(pid)[2]) == leader]


@pytest.mark.triton
def test_an_audit_survives_a_crash_of_the_server(triton_kit, repository, tmp_path):
    """The server is killed while images are scored and comes back on the same ports: no score is lost or doubled."""
    images = np.random.default_rng(2).random((60, 3, 16, 16), np.float32)
    with TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log") as server:
        options = TargetOptions(model="colours", url=server.grpc_url, output="probabilities")
        with TritonClassifier.connect(options) as target:
            stream = target.predict_batches(images[i : i + 2] for i in range(0, 60, 2))
            scores = [next(stream) for _ in range(5)]
            server.kill()
            with ThreadPoolExecutor(1) as pool:
                rest = pool.submit(list, stream)
                time.sleep(0.5)  # requests meet a server that is not there
                server.start()
                scores.extend(rest.result())
            assert target.counts.images == 60
            assert target.counts.retries > 0
    np.testing.assert_allclose(np.concatenate(scores), expected_probabilities(images), atol=1e-5)


@pytest.mark.triton
def test_stopping_leaves_nothing_behind(triton_kit, repository, tmp_path):
    """Server and model processes are gone after the block."""
    with TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log") as server:
        group = group_of(server.pid)
        assert len(group) == 2
    assert server.pid is None
    assert not any(map(is_alive, group))


@pytest.mark.triton
def test_the_server_ends_with_its_parent(triton_kit, repository, tmp_path):
    """A killed launcher takes its server along."""
    command = [sys.executable, "-m", "audit_plugin.demo.server", str(repository), "--kit", str(triton_kit.root.parent)]
    launcher = subprocess.Popen([*command, "--log-file", str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    with launcher:
        assert launcher.stdout.readline().startswith("gRPC     127.0.0.1:")
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        group = group_of(int(children[0]))
        launcher.kill()
    deadline = time.monotonic() + 20
    while any(map(is_alive, group)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, group))


@pytest.mark.triton
def test_ctrl_c_ends_the_command(triton_kit, repository, tmp_path):
    """``python -m audit_plugin.demo.server`` prints the endpoints and ends cleanly."""
    command = [sys.executable, "-m", "audit_plugin.demo.server", str(repository), "--kit", str(triton_kit.root.parent)]
    launcher = subprocess.Popen([*command, "--log-file", str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    with launcher:
        lines = [launcher.stdout.readline() for _ in range(4)]
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(30) == 0
    assert [line.split()[0] for line in lines] == ["gRPC", "HTTP", "metrics", "Ctrl-C"]


@pytest.mark.triton
def test_a_new_version_is_loaded_in_explicit_mode(triton_kit, repository, tmp_path):
    """Explicit model control is there for tests of version changes."""
    with TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log", load=["colours"]) as server:
        write_model(repository, "colours", repository / "colours" / "1" / "model.onnx", LABELS, version=2)
        with triton.InferenceServerClient(server.grpc_url) as client:
            assert not client.is_model_ready("colours", "2")
            client.load_model("colours")
            assert client.is_model_ready("colours", "2")


@pytest.mark.triton
def test_a_model_that_cannot_load_is_named_in_the_error(triton_kit, repository, tmp_path):
    """The last lines of the log travel with the error."""
    (repository / "colours" / "1" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ServerStartError, match=r"failed to load 'colours'"):
        TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log").start()


@pytest.mark.triton
def test_the_kit_is_installed_once(triton_kit):
    """A second call finds what the first one left, and the server's environment does not see the caller's."""
    assert ensure_kit(triton_kit.root.parent) == triton_kit
    environment = triton_kit.process_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(triton_kit.environment / "bin")
    assert "VIRTUAL_ENV" not in environment


def test_other_platforms_are_refused_with_the_way_out(monkeypatch, tmp_path):
    """Nothing is fetched where the binary cannot run."""
    monkeypatch.setattr(kits.platform, "machine", lambda: "arm64")
    with pytest.raises(ServerUnsupportedError, match=r"Linux on x86-64.*nvcr\.io/nvidia/tritonserver"):
        ensure_kit(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_installation_leaves_nothing_behind(monkeypatch, tmp_path):
    """Without a package index the error says so, and the next call starts afresh."""
    monkeypatch.setattr(kits, "refuse_unsupported_platform", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(KitError, match="package index"):
        ensure_kit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kit.lock"]


def test_ports_are_three_different_ones():
    """gRPC, HTTP and metrics never share a port."""
    ports = Ports.free()
    assert len({ports.grpc, ports.http, ports.metrics}) == 3


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [("../up", LABELS, "model name"), ("m", (), "labels"), ("m", ("a", "a"), "labels")],
)
def test_models_that_cannot_be_written(tmp_path, name, labels, message):
    """Names that leave the repository and labels that are none are refused."""
    with pytest.raises(ConfigError, match=message):
        write_model(tmp_path, name, colour_network(tmp_path / "n.onnx"), labels)


def test_a_network_of_one_image_at_a_time_is_served_without_batches(tmp_path):
    """Its batch axis stays a part of its shape, and nothing is said of batching."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 3]), ("y", [1, 3])))
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", [x], [y])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    text = (write_model(tmp_path, "m", tmp_path / "n.onnx", LABELS) / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in text
    assert "dims: [1, 3]" in text
    assert "dynamic_batching" not in text


def test_what_is_no_network_is_refused(tmp_path):
    """The error names the file."""
    (tmp_path / "n.onnx").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"n\.onnx is not an ONNX model"):
        write_model(tmp_path, "m", tmp_path / "n.onnx", LABELS)
