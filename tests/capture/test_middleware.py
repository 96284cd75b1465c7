"""The client middleware: what a customer calls is answered as ever, and arrives in the sample beside it."""

import statistics
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as triton
import uvicorn
from fastapi import FastAPI, Request
from tritonclient.grpc import service_pb2

from audit_plugin.capture.middleware import CapturingClient
from audit_plugin.capture.receiver import router
from audit_plugin.capture.rows import read_rows
from audit_plugin.sources.images import read_image
from audit_plugin.target.preprocess import to_input
from tests.capture.made import TARGET, intake, picture


class Served:
    """A gRPC client whose server is always there: it answers that the picture shows an ill leaf."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def infer(self, model_name, inputs, model_version="", outputs=None, **_):
        time.sleep(self.seconds)
        answer = service_pb2.ModelInferResponse(model_name=model_name, model_version=model_version)
        answer.outputs.add(name="probs", datatype="FP32", shape=[1, 2])
        answer.raw_output_contents.append(np.array([[0.9, 0.1]], np.float32).tobytes())
        return triton.InferResult(answer)

    def is_server_live(self):
        return True


@contextmanager
def receiving(app):
    """A real HTTP server; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/capture"
    finally:
        server.should_exit = True
        thread.join()


def inputs_of(pixels, size=None):
    tensor = to_input(pixels[None].transpose(0, 3, 1, 2).astype(np.float32) / 255, TARGET.preprocess)
    tensor = np.zeros((1, 3, size, size), np.float32) if size else tensor
    one = triton.InferInput("image", list(tensor.shape), "FP32")
    one.set_data_from_numpy(tensor)
    return [one]


def test_a_sampled_call_arrives_with_its_answer(tmp_path):
    """Through HTTP, binary tensors and all; the picture is the client's, also when it uses its input again at once."""
    with intake(tmp_path) as taking:
        app = FastAPI()
        app.include_router(router(taking))
        with receiving(app) as url:
            client = CapturingClient(Served(), url, share=1.0)
            inputs = inputs_of(picture(1))
            result = client.infer("leaves", inputs, "7", client_timeout=3)
            inputs[0].set_data_from_numpy(np.zeros((1, 3, 6, 5), np.float32))
            client.close_capture()
    np.testing.assert_allclose(result.as_numpy("probs"), [[0.9, 0.1]])
    assert (client.counts.sent, client.counts.refused, client.counts.failed) == (1, 0, 0)
    assert client.is_server_live()
    (row,) = read_rows(tmp_path / "leaves")
    assert (row.predicted, row.version) == ("ill", "7")
    np.testing.assert_array_equal(read_image(tmp_path / "leaves" / row.file), picture(1))


def test_the_token_is_sent_and_a_refusal_is_counted(tmp_path):
    """Read anew for every event; what the receiver says of it stays here."""
    app, seen = FastAPI(), []

    @app.post("/v1/capture", status_code=403)
    async def refuse(request: Request):
        seen.append(request.headers["authorization"])

    (tmp_path / "token").write_text("t0ken\n")
    with receiving(app) as url:
        client = CapturingClient(Served(), url, share=1.0, token_file=tmp_path / "token")
        client.infer("leaves", inputs_of(picture()))
        client.close_capture()
    assert seen == ["Bearer t0ken"] * 2
    assert client.counts.refused == 1


def test_only_the_share_is_sampled():
    """Chances below it are; nothing is sent of the rest."""
    chances = iter([0.09, 0.1, 0.5])
    client = CapturingClient(Served(), "http://127.0.0.1:9/", share=0.1, chance=lambda: next(chances))
    for _ in range(3):
        client.infer("leaves", inputs_of(picture()))
    client.close_capture()
    assert client.counts.failed == 1


@pytest.mark.parametrize("address", ["file:///etc/passwd", "audit:18878"])
def test_an_address_that_is_none_is_refused_at_the_start(address):
    """Not at the first call."""
    with pytest.raises(ValueError, match="http"):
        CapturingClient(Served(), address)


def test_nothing_of_ours_reaches_the_caller():
    """Inputs in shared memory, and such as nobody knows, are counted; the client's own error is passed on."""
    client = CapturingClient(Served(), "http://127.0.0.1:9/", share=1.0)
    shared = triton.InferInput("image", [1, 3, 6, 5], "FP32")
    shared.set_shared_memory("region", 360)
    for inputs in ([shared], [object()]):
        assert client.infer("leaves", inputs).as_numpy("probs") is not None
    assert client.counts.dropped == 2
    with pytest.raises(TypeError):
        client.infer("leaves")
    client.close_capture()


def test_a_dead_receiver_costs_the_customer_nothing():
    """Half a megabyte an input to an address that swallows connections: calls take microseconds more, memory is bounded by the queue."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        plain, inputs = Served(), inputs_of(picture(), size=224)
        client = CapturingClient(plain, url, share=1.0, queue_size=8, timeout_seconds=0.2)

        def microseconds(one):
            began = time.perf_counter()
            one.infer("leaves", inputs)
            return (time.perf_counter() - began) * 1e6

        bare, wrapped = ([microseconds(one) for _ in range(400)] for one in (plain, client))
        assert client._queue.qsize() <= 8
        assert client.counts.dropped >= 380
        assert statistics.median(wrapped) - statistics.median(bare) < 500
        client.close_capture(0.3)
