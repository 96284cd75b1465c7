from dataclasses import dataclass, field

import pytest

from audit_plugin.demo.server import TritonServer
from engines.backends.triton import TritonBackend
from engines.cache import BuildCache
from engines.engine import Engine
from engines.errors import BackendError
from engines.network import Network
from engines.protocols import Backend
from engines.serving.graphs import Serving, graph_model
from engines.serving.repository import write_models
from engines.serving.wire import Endpoint
from tests.engines.conformance.networks import Case, make_cases
from tests.engines.conformance.registry import BACKENDS, SERVED
from tests.fixtures.workers import across_workers


@dataclass(eq=False)
class Subject:
    """One backend and the engines that it has built; each case is built once and shared, so tests do not change them."""

    backend: Backend
    cache: BuildCache
    cases: dict[str, Case] = field(default_factory=make_cases)
    _built: dict[str, Engine | Exception | str] = field(default_factory=dict)

    def __call__(self, name: str) -> tuple[Engine, Case]:
        case = self.cases[name]
        if name not in self._built:
            self._built[name] = self._build(case)
        built = self._built[name]
        if isinstance(built, str):
            pytest.skip(built)
        if isinstance(built, Exception):
            raise built
        return built, case

    def _build(self, case: Case) -> Engine | Exception | str:
        """Once: a reason to skip or a failure is the same for every test."""
        try:
            return self.backend.unusable(case.spec) or self.backend.build(case.module, case.spec)
        except BackendError as error:
            return error

    def fresh(self, name: str) -> tuple[Engine, Case]:
        """An engine of its own, from a module of its own."""
        self(name)
        case = make_cases()[name]
        return self.backend.build(case.module, case.spec), case


def pytest_collection_modifyitems(config, items):
    """Compiling takes its time, and of a module that differentiates each network is compiled alone: the one of vjp stands for all."""
    twice = []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if parameters.get("subject") == "torch-compiled":
            if parameters.get("kind") == "vjp":
                item.add_marker(pytest.mark.slow)
            if parameters.get("kind") == "guided":
                twice.append(item)
    if twice:
        config.hook.pytest_deselected(items=twice)
        items[:] = [item for item in items if item not in twice]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Of all workers: compiling is what takes the time, and what is built is named by its content."""
    return BuildCache(across_workers(tmp_path_factory) / "conformance")


@pytest.fixture(scope="session")
def served(triton_kit, shared_cache, tmp_path_factory):
    """All cases as models of a real Triton server: what a remote backend runs."""
    folder = tmp_path_factory.mktemp("conformance")
    serving = Serving(platform="python", buckets=(1, 4), device="cpu", cache=shared_cache)
    cases = {case.spec.name: case for name, case in make_cases().items() if name != "static"}  # a server takes any batch
    models = [
        graph_model(Network(case.module, case.spec, lambda case=case: [case.feeds(4), case.feeds(1)]), serving)
        for case in cases.values()
    ]
    write_models(folder / "repository", models)
    with TritonServer(folder / "repository", kit=triton_kit, log_file=folder / "log") as server:
        yield TritonBackend(endpoint=Endpoint(url=server.grpc_url))
        server.kill()  # a polite end takes seconds


@pytest.fixture(scope="session", params=[*BACKENDS, pytest.param(SERVED, marks=pytest.mark.triton)])
def subject(request, shared_cache):
    """Every backend in turn; the one that needs a server gets a server of its own."""
    backend = request.getfixturevalue("served") if request.param == SERVED else BACKENDS[request.param](shared_cache)
    reason = backend.probe().reason
    if reason is not None:
        pytest.skip(reason)
    made = Subject(backend, shared_cache)
    yield made
    for engine in made._built.values():
        if isinstance(engine, Engine):
            engine.close()
