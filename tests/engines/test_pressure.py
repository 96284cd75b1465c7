import numpy as np
import pytest
import tritonclient.grpc as triton

from engines.duty import Sharing
from engines.pressure import QueueCounts, QueueTime, triton_pressure, triton_queues

METRICS = """
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="a",version="1"} 4
nv_inference_request_success{model="b",version="1"} 10
nv_inference_request_failure{model="b",reason="OTHER",version="1"} 2
nv_inference_queue_duration_us{model="a",version="1"} 1500
nv_inference_queue_duration_us{model="b",version="1"} 1e6
nv_inference_pending_request_count{model="b",version="1"} 3
nv_gpu_utilization{gpu_uuid="GPU-0"} 0.5
"""


def answers(*counts):
    rest = iter(counts)
    return QueueTime(lambda: next(rest), most_seconds=0.005, most_pending=8)


def test_counts_are_summed_over_the_models_asked_for():
    assert triton_queues(METRICS) == QueueCounts(answered=16, queued_seconds=1.0015, pending=3)
    assert triton_queues(METRICS, {"a"}) == QueueCounts(answered=4, queued_seconds=0.0015, pending=0)


def test_the_mean_since_the_last_reading_decides():
    """Not the mean since the server started: 100 quick requests do not hide 10 slow ones."""
    pressed = answers(QueueCounts(0, 0.0), QueueCounts(100, 0.1), QueueCounts(110, 0.2), QueueCounts(210, 0.3))
    assert [pressed() for _ in range(4)] == [False, False, True, False]


def test_without_answers_there_is_no_mean():
    """Nothing asked since, or the server began to count anew."""
    pressed = answers(QueueCounts(100, 9.0), QueueCounts(100, 9.0), QueueCounts(3, 9.0))
    assert [pressed() for _ in range(3)] == [False, False, False]


def test_a_queue_that_grows_is_pressure_before_anything_is_answered():
    assert answers(QueueCounts(pending=9))()


def test_other_addresses_are_refused():
    with pytest.raises(ValueError, match="http://"):
        triton_pressure("file:///etc/hosts")


def test_a_server_that_does_not_answer_counts_as_pressure():
    """Nobody listens on port 9, discard."""
    sharing = Sharing(pressed=triton_pressure("http://127.0.0.1:9/metrics"), poll_seconds=0.25)
    assert sharing.begin() == 0.25


@pytest.mark.triton
def test_a_real_server_is_understood(triton_server):
    """Its counts move by what it is asked, if not always before it has answered."""
    image = triton.InferInput("image", [1, 3, 16, 16], "FP32")
    image.set_data_from_numpy(np.zeros((1, 3, 16, 16), np.float32))
    pressed = triton_pressure(triton_server.metrics_url, {"colours"})
    before = pressed._read()
    client = triton.InferenceServerClient(triton_server.grpc_url)
    for _ in range(3):
        client.infer("colours", [image])
    readings = (pressed._read() for _ in range(100))
    after = next(each for each in readings if each.answered == before.answered + 3)
    assert after.queued_seconds > before.queued_seconds
    assert not pressed()
