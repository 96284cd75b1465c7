"""Which module is TensorRT, and why another is not."""

import sys
from types import ModuleType

import pytest

from engines.backends.trt.vendor import Vendor, as_vendor, find_vendor, missing_names, release
from tests.engines.trt import fake


def named(name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    return module


@pytest.fixture
def importable(monkeypatch):
    """Modules that ``import`` finds."""

    def importable(**modules):
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    return importable


def test_nothing_is_installed():
    """Of any of the names."""
    assert find_vendor(("no_tensorrt", "no_tensorrt_bindings")) == "TensorRT is not installed; install the extra `tensorrt`"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_bindings"])
def test_either_name_will_do(importable, name):
    """The second is there when libraries come from elsewhere."""
    importable(**{"tensorrt": None, "tensorrt_bindings": None, name: fake.make(11)})
    found = find_vendor(("tensorrt", "tensorrt_bindings"))
    assert isinstance(found, Vendor)
    assert (found.version, found.release, found.lean) == ("11.4.0.106", (11, 4), False)


def test_lean_is_the_last_resort(importable):
    importable(tensorrt=None, tensorrt_bindings=None, tensorrt_lean=fake.make(10, lean=True))
    assert find_vendor().lean


def test_a_package_may_pass_its_bindings_on_without_their_version(importable):
    package = fake.make(10)
    del package.__version__
    importable(tensorrt_bindings=named("tensorrt_bindings", __version__="10.15.1.29"))
    assert as_vendor(package).version == "10.15.1.29"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (named("folder"), "folder is something else than TensorRT"),
        (named("old", __version__="8.6.1"), r"old is 8.6.1; TensorRT 10.13 or newer is needed"),
        (named("strange", __version__="99.0"), "strange 99.0 has no ILogger.ERROR"),
    ],
)
def test_what_is_not_usable_says_why(module, reason):
    assert reason in as_vendor(module)


def test_a_release_that_lost_a_name_is_refused(trt):
    """Whatever its number; the name is given."""
    shadow = named("tensorrt", **{name: value for name, value in vars(trt).items() if name != "Refitter"})
    assert "no Refitter.get_missing_weights" in as_vendor(shadow)
    assert missing_names(trt, []) == []


def test_libraries_that_do_not_load_are_a_reason(tmp_path, monkeypatch):
    """Not an exception, whatever its type."""
    (tmp_path / "broken_rt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "libnvinfer.so.10" in find_vendor(("broken_rt",))


@pytest.mark.parametrize(("version", "pair"), [("10.16.1.11", (10, 16)), ("11.0", (11, 0)), ("dev", (0, 0))])
def test_releases_are_read(version, pair):
    assert release(version) == pair
