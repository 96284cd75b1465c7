"""Probe, build, open and reject, through a fake of the vendor's module that computes."""

import dataclasses
import os

import pytest
import torch

from engines.backends.eager import EagerBackend
from engines.backends.trt.choices import opsets, precisions, weight_bytes
from engines.backends.trt.plan import ABOUT, PLAN, read_facts
from engines.backends.trt.request import BuildOptions
from engines.errors import ArtifactError, BackendUnavailableError, ExportError, PlanError
from engines.parity import certify
from engines.spec import Profile
from tests.engines.trt import fake
from tests.engines.trt.host import HostDevice
from tests.engines.trt.networks import SPEC, Small, feeds, write_graph


def plan_of(backend):
    (path,) = backend.cache.root.glob(f"*/{PLAN}")
    return path


def test_an_engine_computes_what_the_module_does(backend, module):
    """Certified as any engine is: several batches, a row alone, buffers poisoned before."""
    certificate = certify(backend.build(module, SPEC), EagerBackend().build(module, SPEC), [feeds(rows) for rows in (4, 3, 1, 8)])
    assert certificate.failure is None
    assert certificate.error < 1e-6
    assert certificate.deterministic


def test_a_static_engine_has_no_profile(backend, module):
    """Its graph has the batch in it; smaller batches are padded."""
    static = dataclasses.replace(SPEC, profile=Profile(4, 4, 4))
    engine = backend.build(module, static)
    assert fake.head_of(plan_of(backend))["profile"] == {}
    torch.testing.assert_close(engine.run(feeds(3))["y"], module(**feeds(3)))
    engine.bind(feeds(4), {"y": (out := torch.zeros(4, 2, 6))})
    torch.testing.assert_close(out, module(**feeds(4)))


def test_a_plan_is_built_once(backend, make_backend, trt, module):
    """Another backend on the same cache opens it."""
    backend.build(module, SPEC)
    again = make_backend(trt)
    again.build(module, SPEC)
    assert (len(backend.ways.build.requests), len(again.ways.build.requests)) == (1, 0)


def test_nobody_else_may_write_a_plan(backend, module):
    """Whatever the umask, ours may not be rejected; one that others could write is not opened."""
    before = os.umask(0o002)
    try:
        backend.build(module, SPEC), backend.build(module, SPEC)
    finally:
        os.umask(before)
    assert len(backend.ways.build.requests) == 1
    plan_of(backend).chmod(0o620)
    with pytest.raises(ArtifactError, match="written by others"):
        backend.load(plan_of(backend).parent, SPEC)


@pytest.mark.parametrize(("options", "one"), [(BuildOptions(), True), (BuildOptions(refit=True), False)], ids=["plain", "refit"])
def test_workers_share_the_weights_of_a_plan(make_backend, trt, module, options, one):
    """Unless one of them could replace them; a closed engine leaves the others theirs."""
    backend = make_backend(trt, options=options)
    first, second = backend.build(module, SPEC), backend.build(module, SPEC)
    engines = [each.program._state.contexts._opened.engine for each in (first, second)]
    assert (engines[0] is engines[1]) is one
    first.close()
    torch.testing.assert_close(second.run(feeds(3))["y"], module(**feeds(3)))


@pytest.mark.parametrize(
    "change",
    [{"options": BuildOptions(level=5)}, {"options": BuildOptions(refit=True)}, {"device": HostDevice("Other")}, {"device": HostDevice(free=1)}],
    ids=["level", "refit", "device", "memory"],
)  # fmt: skip
def test_what_a_plan_depends_on_is_in_its_key(backend, make_backend, trt, module, change):
    backend.build(module, SPEC)
    other = make_backend(trt, **change)
    other.build(module, SPEC)
    assert len(list(other.cache.root.glob(f"*/{PLAN}"))) == 2


def test_a_plan_that_was_searched_for_longer_is_taken(make_backend, trt, module):
    """Built once with patience, later runs open it; what was searched for less is not what patience asked for."""
    for options, built in ((BuildOptions(level=4), 1), (BuildOptions(level=5), 1), (BuildOptions(), 0)):
        backend = make_backend(trt, options=options)
        backend.build(module, SPEC)
        assert len(backend.ways.build.requests) == built


def test_another_release_builds_its_own(make_backend, module):
    for number in (10, 11):
        make_backend(fake.make(number)).build(module, SPEC)
    assert len(list(make_backend(None).cache.root.glob(f"*/{PLAN}"))) == 2


def test_a_plan_that_the_runtime_refuses_is_built_again_once(backend, module, caplog):
    """Its checksum is right, its content is not: written by a broken build."""
    backend.build(module, SPEC)
    key = plan_of(backend).parent.name
    backend.cache.discard(key)

    def broken(empty):
        backend._make(module, SPEC, empty, streaming=False)
        (empty / PLAN).write_bytes(b"not a plan")

    backend.cache.obtain(key, broken)
    assert backend.build(module, SPEC).run(feeds(2))["y"].isfinite().all()
    assert "magic tag" in caplog.text
    assert len(backend.ways.build.requests) == 3


def test_a_plan_refused_twice_is_an_error(backend, module, monkeypatch):
    """The builder and the runtime disagree: saying so beats building for ever."""
    monkeypatch.setattr(fake.ICudaEngine, "num_io_tensors", property(lambda _: 7))
    monkeypatch.setattr(fake.ICudaEngine, "get_tensor_name", lambda _, index: f"tensor{index}")
    with pytest.raises(ArtifactError, match="tensor6"):
        backend.build(module, SPEC)
    assert len(backend.ways.build.requests) == 2
    assert not list(backend.cache.root.glob(f"*/{PLAN}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": dataclasses.replace(SPEC.profile, max_b=9)}, "another network"),
        ({"name": "other"}, "another network"),
    ],
)
def test_a_plan_of_another_network_is_not_loaded(backend, module, change, message):
    backend.build(module, SPEC)
    with pytest.raises(ArtifactError, match=message):
        backend.load(plan_of(backend).parent, dataclasses.replace(SPEC, **change))


def test_a_plan_from_elsewhere_is_not_loaded(backend, make_backend, trt, module):
    """Of another GPU, of another release, or with half of its files."""
    backend.build(module, SPEC)
    folder = plan_of(backend).parent
    with pytest.raises(ArtifactError, match="compiled for Fake H, this is Fake Z"):
        make_backend(trt, device=HostDevice("Fake Z")).load(folder, SPEC)
    other = fake.make(10, version="10.13.0.0")
    with pytest.raises(ArtifactError, match=r"this is 10\.13"):
        make_backend(other).load(folder, SPEC)
    (folder / ABOUT).unlink()
    with pytest.raises(ArtifactError, match=ABOUT):
        backend.load(folder, SPEC)


PORTABLE = BuildOptions(portable="ampere_plus")


@pytest.mark.parametrize(
    ("built", "loaded", "lean", "works"),
    [(10, 10, True, True), (10, 11, False, True), (10, 11, True, True), (11, 10, False, False), (11, 10, True, False)],
)
def test_portable_plans_run_on_newer_releases_and_other_gpus(make_backend, built, loaded, lean, works):
    """Also on the runtime that only loads; never on an older family."""
    module = Small()
    first = make_backend(fake.make(built), options=PORTABLE)
    right = first.build(module, SPEC).run(feeds(3))["y"]
    other = make_backend(fake.make(loaded, lean=lean), device=HostDevice("Fake Z", (12, 0)), root="other")
    if works:
        torch.testing.assert_close(other.load(plan_of(first).parent, SPEC).run(feeds(3))["y"], right)
    else:
        with pytest.raises(ArtifactError, match="cannot read"):
            other.load(plan_of(first).parent, SPEC)


def test_portable_within_a_capability_is_no_further(make_backend, trt, module):
    first = make_backend(trt, options=BuildOptions(portable="same_compute_capability"))
    first.build(module, SPEC)
    folder = plan_of(first).parent
    make_backend(trt, device=HostDevice("Fake Z", (9, 0))).load(folder, SPEC)
    with pytest.raises(ArtifactError, match=r"compute capability 9\.0, this device has 8\.0"):
        make_backend(trt, device=HostDevice("Fake A", (8, 0))).load(folder, SPEC)


def test_lean_builds_nothing(make_backend, module):
    lean = make_backend(fake.make(11, lean=True))
    assert "builds none" in lean.unusable(SPEC)
    with pytest.raises(BackendUnavailableError, match="builds none"):
        lean.build(module, SPEC)


def test_lean_loads_portable_plans_only(make_backend, module):
    first = make_backend(fake.make(11))
    first.build(module, SPEC)
    with pytest.raises(ArtifactError, match="portable plans only"):
        make_backend(fake.make(11, lean=True)).load(plan_of(first).parent, SPEC)


def test_a_plan_without_weights_takes_them_from_the_graph(make_backend, trt, module):
    backend = make_backend(trt, options=BuildOptions(strip=True))
    torch.testing.assert_close(backend.build(module, SPEC).run(feeds(3))["y"], module(**feeds(3)))
    backend.cache.discard(read_facts(plan_of(backend).parent).graph)
    with pytest.raises(ArtifactError, match="without weights"):
        backend.load(plan_of(backend).parent, SPEC)


@pytest.mark.parametrize(("free", "streamed"), [(311, True), (312, False)])
def test_weights_are_streamed_only_where_they_do_not_fit(make_backend, trt, module, free, streamed):
    """As far as they do not: all of them here, where nothing is left beside the headroom."""
    backend = make_backend(trt, device=HostDevice(free=free))
    engine = backend.build(module, SPEC)
    assert ("WEIGHT_STREAMING" in fake.head_of(plan_of(backend))["flags"]) is streamed
    assert engine.program._state.contexts._opened.engine.weight_streaming_budget_v2 == 0
    assert (weight_bytes(module, "fp32"), weight_bytes(module, "bf16")) == (312, 156)


def test_the_newest_operators_that_the_parser_takes(make_backend, module):
    """23 has attention; a parser that does not know it gets 21."""
    for newest, opset in ((24, 23), (22, 21)):
        backend = make_backend(fake.make(10, newest_opset=newest), root=str(newest))
        backend.build(module, SPEC)
        graph = read_facts(plan_of(backend).parent).graph
        assert graph == dataclasses.replace(SPEC, opset=opset).key()


def test_every_refusal_of_the_parser_is_reported(make_backend, trt, module):
    """Of every node, at every opset."""
    odd = make_backend(trt, export=lambda m, s, f: write_graph(m, s, f, extra=("NonZero", "Loop")))
    with pytest.raises(PlanError) as caught:
        odd.build(module, SPEC)
    for part in ("opset 23", "opset 21", "'odd_NonZero' (NonZero)", "'odd_Loop' (Loop)", "use backend torch"):
        assert part in str(caught.value)
    assert not list(odd.cache.root.glob(f"*/{PLAN}"))


def test_a_network_that_cannot_be_exported_is_refused(make_backend, trt, module):
    def fail(*_):
        raise ExportError("no")

    with pytest.raises(PlanError, match=r"opset 23: no.*opset 21: no"):
        make_backend(trt, export=fail).build(module, SPEC)


def test_a_builder_without_an_implementation_is_not_asked_twice(make_backend, trt, module):
    """Only what the parser refuses is tried with older operators."""
    odd = make_backend(trt, export=lambda m, s, f: write_graph(m, s, f, extra=("Explodes",)))
    with pytest.raises(PlanError, match=r"\(build\).*could not find any implementation"):
        odd.build(module, SPEC)
    assert len(odd.ways.build.requests) == 1


def test_a_probe_says_what_there_is(backend, trt):
    capability = backend.probe()
    assert (capability.reason, capability.version, capability.device) == (None, trt.__version__, "Fake H")
    assert backend.unusable(SPEC) is None
    assert "fp8" in backend.unusable(SPEC.at("fp8"))
    assert "loop" in backend.unusable(dataclasses.replace(SPEC, kind="loop"))


def test_the_driver_is_asked_first(make_backend, trt, module):
    """Without one nothing of the vendor's is touched, not even imported."""
    backend = make_backend(trt)
    ways = dataclasses.replace(backend.ways, driver=lambda: "no driver", find=lambda: pytest.fail("imported"))
    without = dataclasses.replace(backend, ways=ways)
    assert without.unusable(SPEC) == "no driver"
    for use in (lambda: without.build(module, SPEC), lambda: without.load(without.cache.root, SPEC)):
        with pytest.raises(BackendUnavailableError, match="no driver"):
            use()


def test_a_runtime_that_dies_in_its_trial_is_not_started_here(make_backend, trt):
    backend = make_backend(trt)
    ways = dataclasses.replace(backend.ways, start=lambda *_: "ended by SIGSEGV")
    assert dataclasses.replace(backend, ways=ways).probe().reason == "ended by SIGSEGV"


def test_tables_of_releases_and_devices():
    assert opsets((10, 13)) == (21,)
    assert opsets((11, 4)) == (23, 21)
    assert precisions((7, 5)) == ("fp32", "fp16")
    assert "bf16" in precisions((8, 0))


def test_two_networks_of_one_shape_differ(backend):
    """By their weights' hash, as specs do."""
    first, second = Small(0), Small(1)
    other = dataclasses.replace(SPEC, model_hash="b" * 64)
    a, b = backend.build(first, SPEC).run(feeds(2))["y"], backend.build(second, other).run(feeds(2))["y"]
    assert not torch.allclose(a, b)
