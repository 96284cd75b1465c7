"""What the ``engines`` commands say of a GPU: nothing that is there is wrong, and no time is below its floor by much."""

import json

import pytest
import torch

from engines.calibrate import calibrate
from engines.desk.selfcheck import selfcheck
from tests.bench import engines_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none"),
]


@pytest.mark.timeout(1800)
def test_nothing_that_is_available_is_wrong():
    """Torch at least is there in every precision, each kind of network certified."""
    checks = list(selfcheck(devices=["cuda"]))
    assert [check for check in checks if check.verdict == "FAIL"] == []
    done = {(check.backend, check.what) for check in checks if check.verdict == "ok"}
    assert {("torch", f"{kind} {precision}") for kind in ("forward", "vjp", "guided") for precision in ("fp32", "bf16")} <= done


@pytest.mark.parametrize(("lower", "higher"), [("fp32", "tf32"), ("tf32", "bf16")])
def test_lower_precision_has_a_higher_peak(lower, higher):
    """Tensor cores multiply fewer bits faster; memory does not care."""
    slow, fast = (calibrate("cuda", precision, seconds=0.3) for precision in (lower, higher))
    assert fast.flops > 1.2 * slow.flops
    assert fast.bandwidth == pytest.approx(slow.bandwidth, rel=0.2)


def test_a_large_network_is_no_faster_than_its_floor(tmp_path):
    """A convolution may be computed by fewer multiplications than its formula has, but not by half of them."""
    arguments = ["--case", "vae_decoder_b1", "--backend", "torch", "--cache", str(tmp_path), "--json", str(tmp_path / "out.json")]
    engines_gpu.main(arguments)
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["state"] == "ok"
    assert row["ratio"] > 0.5
