import pytest

from engines.backends.trt.arena import Arena
from engines.backends.trt.backend import TensorrtBackend, Ways
from engines.backends.trt.planner import Refused, make_plan
from engines.backends.trt.vendor import as_vendor
from engines.cache import BuildCache
from engines.errors import PlanError
from tests.engines.trt import fake
from tests.engines.trt.host import HostDevice
from tests.engines.trt.networks import Small, write_graph


class Here:
    """Builds in this process with a given module, and counts."""

    def __init__(self, trt):
        self.trt, self.requests = trt, []

    def __call__(self, request, environment):
        self.requests.append(request)
        try:
            make_plan(self.trt, request)
        except Refused as refusal:
            raise PlanError(refusal.stage, refusal.reasons) from refusal


@pytest.fixture(params=[10, 11])
def trt(request):
    """The fake of either family."""
    return fake.make(request.param)


@pytest.fixture
def make_backend(tmp_path):
    """A backend on a fake module and a fake device."""

    def make(trt, *, device=None, root="cache", export=write_graph, **options):
        ways = Ways(driver=lambda: None, find=lambda: as_vendor(trt), start=lambda *_: None, build=Here(trt), export=export)
        return TensorrtBackend(
            BuildCache(tmp_path / root), device or HostDevice(), ways=ways, arena=Arena(HostDevice.torch), **options
        )

    return make


@pytest.fixture
def backend(trt, make_backend):
    return make_backend(trt)


@pytest.fixture
def module():
    return Small()
