"""What the real bindings have, from tables made from their wheels, against what we say and use."""

import ast
import inspect
import os
import shutil
from pathlib import Path

import pytest

from engines.backends.trt import api
from tests.engines.trt import tables
from tests.engines.trt.contract import ABSENT_IN_11, BESIDES, ONLY_IN_11, SPECIFIED, has, names

WHEELS = os.environ.get("AUDIT_PLUGIN_TENSORRT_WHEELS", "")
FULL = [tables.read(10), tables.read(11)]
LEAN = [tables.read(10, lean=True), tables.read(11, lean=True)]
KINDS = [*api.LOADING, *api.BUILDING]


def test_everything_specified_is_in_both_families():
    missing = [
        (t["version"], kind, name) for t in FULL for kind, listed in SPECIFIED.items() for name in listed if not has(t, kind, name)
    ]
    assert missing == []


@pytest.mark.parametrize(("kind", "name"), ABSENT_IN_11)
def test_what_is_forbidden_went_away(kind, name):
    """Code that used it would run on 10 only."""
    assert [has(t, kind, name) for t in FULL] == [True, False]


@pytest.mark.parametrize(("kind", "name"), ONLY_IN_11)
def test_what_came_with_11_is_behind_a_question(kind, name):
    assert [has(t, kind, name) for t in FULL] == [False, True]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_touched_is_specified_or_explained(kind):
    listed = set(SPECIFIED.get(kind.__name__, ()))
    strange = {
        name for name in api.members(kind) - listed if kind.__name__ not in BESIDES and f"{kind.__name__}.{name}" not in BESIDES
    }
    assert strange == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("table", FULL, ids=lambda table: table["version"])
def test_what_is_touched_is_as_we_type_it(table, kind):
    """Names, parameters, whether an answer may be False, whether a property can be set: what mypy holds our code to."""
    assert [wrong for name in api.members(kind) for wrong in differences(table, kind, name)] == []


@pytest.mark.parametrize("kind", api.LOADING, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("table", LEAN, ids=lambda table: table["version"])
def test_the_lean_runtime_has_what_loading_takes(table, kind):
    assert api.members(kind) - names(table, kind.__name__) == set()
    assert "Builder" not in table["classes"]


def differences(table, kind, name):
    """How one name of a protocol of ours differs from the table."""
    found, ours = table["classes"].get(kind.__name__, {}), inspect.getattr_static(kind, name, None)
    if inspect.isfunction(ours):
        if not any(suits(ours, text) for text in found.get("methods", {}).get(name, [])):
            yield f"{kind.__name__}.{name}{inspect.signature(ours)} is {found.get('methods', {}).get(name)}"
    elif isinstance(ours, property):
        if name not in found.get("properties", {}):
            yield f"{kind.__name__}.{name} is no property"
    elif "ClassVar" in str(kind.__annotations__[name]):
        if name not in {*found.get("enum", ()), *found.get("values", ())}:
            yield f"{kind.__name__}.{name} is no member"
    elif found.get("properties", {}).get(name) != "get, set":
        yield f"{kind.__name__}.{name} cannot be set"


def suits(ours, text):
    """Whether a method of ours can be called as an overload is written: ``(a, b=) -> bool``."""
    wanted, _, answer = text.partition(" -> ")
    given = list(inspect.signature(ours).parameters)[1:]
    listed = [part for part in wanted.strip("()").split(", ") if part]
    enough = all(part.endswith("=") for part in listed[len(given) :])
    returned = str(inspect.signature(ours).return_annotation)
    plain = {"None": "None", "<class 'bool'>": "bool", "<class 'int'>": "int", "<class 'str'>": "str", "list[str]": "list[str]"}
    same = plain.get(returned, answer).lower() == answer.lower()  # older bindings say List
    return given == [part.rstrip("=") for part in listed[: len(given)]] and enough and same


def test_a_wrong_protocol_is_noticed():
    """The comparison itself can fail."""

    class IExecutionContext:
        device_memory_size: int

        def execute_async_v3(self, stream) -> bool: ...
        def set_device_memory(self, memory: int, size: int) -> bool: ...
        def infer_shapes(self) -> list[str]: ...

    found = [name for name in sorted(api.members(IExecutionContext)) for _ in differences(FULL[0], IExecutionContext, name)]
    assert found == ["device_memory_size", "execute_async_v3", "set_device_memory"]


def test_nothing_is_declared_that_is_not_used():
    """The protocols are what is touched, not a copy of the vendor's documentation."""
    folder = Path(api.__file__).parent
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.value
        for path in folder.glob("*.py")
        if path.name != "api.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    called_by_the_vendor = {"log"}
    assert {name for kind in KINDS for name in api.members(kind)} - used - called_by_the_vendor == set()


@pytest.mark.skipif(
    not WHEELS, reason="set AUDIT_PLUGIN_TENSORRT_WHEELS to a folder of bindings wheels; tables.py says how to fill it"
)
@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "nm", "readelf"))), reason="needs gcc and binutils")
def test_the_tables_are_those_of_the_real_bindings():
    """Made again from every wheel in the folder; one of another release has at least what is touched."""
    found = tables.wheels(WHEELS)
    assert found
    for path, major, lean in found:
        made, kept = tables.table(path), tables.read(major, lean=lean)
        if made["version"] == kept["version"]:
            assert made == kept
        kinds = api.LOADING if lean else KINDS
        assert [wrong for kind in kinds for name in api.members(kind) for wrong in differences(made, kind, name)] == []
