"""Every check of a certificate, each with an engine that has exactly this fault; and notes that are not what they should be."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.buckets import remembered_times
from engines.build import Builder
from engines.cache import BuildCache
from engines.calibrate import calibrate, calibrated
from engines.certificate import Certificate, certificate_note, read_certificate
from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.parity import certify
from engines.pipeline import load_pipeline
from engines.spec import EngineSpec, Profile, TensorSpec

SPEC = EngineSpec(
    name="double",
    inputs=(TensorSpec("x", "float32", ("B", 4)),),
    outputs=(TensorSpec("y", "float32", ("B", 4)),),
    profile=Profile(1, 8, 64),
    model_hash="d" * 64,
)
GUIDED = replace(SPEC, outputs=(*SPEC.outputs, TensorSpec("g", "float32", ("B", 4))), gradients=("g",))


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class WithGradient(nn.Module):
    def forward(self, x):
        return 2 * x, 3 * x


class Faulty:
    """A program that computes twice its input, but for one fault."""

    device, captures = torch.device("cpu"), 0

    def __init__(self, fault):
        self.fault, self.runs = fault, 0

    def run(self, feeds, out, stream):
        self.runs += 1
        x = feeds["x"]
        y = self.fault(2 * x, len(x), self.runs)
        if out is None:
            return {"y": y}
        keep = ~torch.isneginf(y)
        out["y"][keep] = y[keep]  # what is minus infinity stays unwritten
        return out

    def bind(self, feeds, outs):
        raise NotImplementedError

    def refit(self, weights):
        raise NotImplementedError

    def close(self):
        pass


def judged(fault):
    engine = Engine(spec=SPEC, program=Faulty(fault), backend="faulty")
    return certify(engine, EagerBackend(threads=1).build(Double(), SPEC), [{"x": torch.randn(8, 4)}, {"x": torch.randn(3, 4)}])


def changed(y, where, value):
    y = y.clone()
    y[where] = value
    return y


def test_a_right_engine_passes():
    certificate = judged(lambda y, *_: y)
    assert (certificate.failure, certificate.deterministic, certificate.batch_error, certificate.batches) == (None, True, 0.0, 2)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (lambda y, rows, _: changed(y, (0, 1), float("-inf")) if rows == 3 else y, "unwritten"),
        (lambda y, rows, _: changed(y, (-1, 0), float("nan")) if rows == 8 else y, "not finite"),
        (lambda y, *_: y * 1.001, "differs from the reference"),
        (lambda y, rows, _: y * 1.001 if rows == 1 else y, "from itself in a batch"),
    ],
)
def test_each_fault_is_found(fault, failure):
    assert failure in judged(fault).failure


def test_bits_that_change_from_run_to_run_are_said_and_allowed():
    certificate = judged(lambda y, _, run: torch.nextafter(y, y + (run > 2)))
    assert not certificate.deterministic
    assert certificate.failure is None


def test_a_gradient_that_points_elsewhere_is_found():
    """Long enough and in another direction."""

    class Turned(WithGradient):
        def forward(self, x):
            y, g = super().forward(x)
            return y, g.roll(1, 1)

    eager = EagerBackend(threads=1)
    certificate = certify(eager.build(Turned(), GUIDED), eager.build(WithGradient(), GUIDED), [{"x": torch.randn(8, 4)}])
    assert certificate.gradient_cosine < 0.99
    assert "gradient" in certificate.failure
    assert "points elsewhere" in replace(certificate, gradient_error=0.0).failure


@pytest.mark.parametrize("field", ["error", "batch_error", "gradient_error", "gradient_cosine"])
def test_a_number_that_is_none_passes_nothing(field):
    good = Certificate(backend="x", precision="fp32", error=0.0, batch_error=0.0, gradient_error=0.0, gradient_cosine=1.0)
    assert good.failure is None
    assert replace(good, **{field: float("nan")}).failure


@pytest.mark.parametrize(
    "change", [{"error": "small"}, {"error": None}, {"precision": [1]}, {"finite": 1}, {"batches": "8"}, {"gradient_error": "x"}]
)
def test_a_note_with_other_types_is_no_certificate(change):
    note = certificate_note(Certificate(backend="x", precision="fp32", error=0.0, batch_error=0.0))
    assert read_certificate(note) is not None
    assert read_certificate({**note, **change}) is None


class Counting(EagerBackend):
    """Plain torch under another name, its artifact named by the test."""

    built = "first"

    def build(self, module, spec):
        engine = super().build(module, spec)
        return replace(engine, backend="counting", artifact=Counting.built)


def builder(cache):
    backend = Counting(threads=1, name="counting")
    return Builder(reference=EagerBackend(threads=1), backends=[backend], cache=cache, rows=2, where={"device": "cpu"})


def test_a_certificate_is_of_what_was_built(tmp_path, monkeypatch):
    """An artifact that is built again is judged again; the same one is not."""
    seen = []
    monkeypatch.setattr("engines.build.certify", lambda *given: seen.append(1) or certify(*given))
    cache, feeds = BuildCache(tmp_path), [{"x": torch.randn(8, 4)}]
    for name in ("first", "first", "second"):
        Counting.built = name
        builder(cache).build(Double(), SPEC, "counting", lambda: feeds)
    assert len(seen) == 2


def test_rankings_and_rates_of_other_types_are_measured_again(tmp_path, monkeypatch):
    cache, feeds = BuildCache(tmp_path), [{"x": torch.randn(8, 4)}]
    plain = EagerBackend(threads=1)
    both = replace(builder(cache), backends=[Counting(threads=1, name="counting"), plain])
    both.build(Double(), SPEC, "auto", lambda: feeds)
    (note,) = tmp_path.glob("*/ranking-*.json")
    for spoilt in ({"counting": "fast", "torch": 1.0}, {"counting": None, "torch": 1.0}, {"counting": 0.0, "torch": 1.0}):
        note.write_text(json.dumps(spoilt))
        both.build(Double(), SPEC, "auto", lambda: feeds)
        assert all(value > 0 for value in json.loads(note.read_text()).values())
    monkeypatch.setattr("engines.calibrate.calibrate", partial(calibrate, seconds=0.01))
    calibrated(cache, "cpu", "fp32", 1)
    (rates,) = (tmp_path / "calibration").glob("*.json")
    for spoilt in ({}, {"flops": "x", "bandwidth": 1.0}, {"flops": 0, "bandwidth": 1.0}):
        rates.write_text(json.dumps(spoilt))
        assert calibrated(cache, "cpu", "fp32", 1).flops > 0
    cache.write_note("k", "unused", {})
    for spoilt in ({"8": "x"}, {"eight": 1.0}, {}):
        assert remembered_times(cache, "k", {"spoilt": str(spoilt)}, lambda: {8: 0.5}) == {8: 0.5}
        (times,) = [path for path in (tmp_path / "k").glob("buckets-*.json") if json.loads(path.read_text()) == {"8": 0.5}]
        times.write_text(json.dumps(spoilt))
        assert remembered_times(cache, "k", {"spoilt": str(spoilt)}, lambda: {8: 0.25}) == {8: 0.25}
        times.unlink()


def test_the_faster_backend_is_chosen(tmp_path):
    """One that needs twenty times as long is not."""

    class Slow(nn.Module):
        def forward(self, x):
            for _ in range(400):
                x = x + 0.0
            return 2 * x

    class Slowed(EagerBackend):
        def build(self, module, spec):
            return replace(super().build(Slow(), spec), backend="slowed")

    both = replace(builder(BuildCache(tmp_path)), backends=[Slowed(threads=1, name="slowed"), EagerBackend(threads=1)])
    _, choice = both.build(Double(), SPEC, "auto", lambda: [{"x": torch.randn(8, 4)}])
    assert choice.name == "torch"
    assert any("slowed" in refused for refused in choice.refused)


def test_a_backend_without_memory_is_passed_over_or_said(tmp_path):
    class Hungry(EagerBackend):
        def build(self, module, spec):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB\nand a page of advice")

    hungry = Hungry(threads=1, name="hungry")
    both = replace(builder(BuildCache(tmp_path)), backends=[hungry, EagerBackend(threads=1)])
    _, choice = both.build(Double(), SPEC, "auto", lambda: [{"x": torch.randn(8, 4)}])
    assert choice.name == "torch"
    assert any("not enough memory" in refused and "\n" not in refused for refused in choice.refused)
    with pytest.raises(OutOfMemoryError, match="not enough memory"):
        both.build(Double(), SPEC, "hungry", lambda: [{"x": torch.randn(8, 4)}])


def test_pictures_are_drawn_in_halves_where_memory_is_short(pipeline_directory, tmp_path, monkeypatch):
    """The same pictures; after three halvings one clear error."""
    pipeline = load_pipeline(pipeline_directory, backend="torch", steps=2, threads=1, batch=8, cache=tmp_path)
    whole = pipeline.generate(["a"] * 8, list(range(8)))
    draw, most = type(pipeline).draw, [2]

    def limited(self, wanted, seeds, *, on_step=None):
        if len(seeds) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(self, wanted, seeds, on_step=on_step)

    monkeypatch.setattr(type(pipeline), "draw", limited)
    np.testing.assert_allclose(pipeline.generate(["a"] * 8, list(range(8))), whole, atol=1e-5)
    most[0] = 0
    with pytest.raises(OutOfMemoryError, match="set a smaller"):
        pipeline.generate(["a"] * 8, list(range(8)))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_artifact_gives_way_to_one(tmp_path, kind):
    cache, place = BuildCache(tmp_path), tmp_path / ("a" * 32)
    if kind == "file":
        place.write_text("not a folder")
    else:
        place.symlink_to(tmp_path / "nowhere")
    folder = cache.obtain("a" * 32, lambda empty: (empty / "model.onnx").write_bytes(b"1") and None)
    assert (folder / "model.onnx").read_bytes() == b"1"
    assert cache.content("a" * 32)
    assert not cache.content("b" * 32)


def test_collecting_clears_what_killed_builds_left(tmp_path):
    """But not what somebody is building."""
    cache = BuildCache(tmp_path)
    for key in ("a", "b"):
        (tmp_path / f"{key * 32}.lock").touch()
        (tmp_path / f".{key * 32}.killed").mkdir()
    with cache._lock("b" * 32):
        cache.collect(10**9)
        assert sorted(path.name[1] for path in tmp_path.glob(".*")) == ["b"]
