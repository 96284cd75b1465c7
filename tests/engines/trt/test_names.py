"""No name of TensorRT's may be written that one of the supported families lacks: read off the code itself."""

import ast
from pathlib import Path

import pytest

from engines.backends import trt
from tests.engines.trt import tables
from tests.engines.trt.contract import names

FULL = [tables.read(10), tables.read(11)]
FILES = sorted(Path(trt.__file__).parent.glob("*.py"))


def every_name(table):
    return {name for kind in table["classes"] for name in names(table, kind)} | set(table["classes"])


OURS = {"precision"}
"""Also names of our own objects: ``EngineSpec.precision``, in 10 that of a layer."""

DIFFERENT = every_name(FULL[0]) ^ every_name(FULL[1])
"""In one family only, whatever the class."""


class Reader(ast.NodeVisitor):
    """Collects what is wrong in one file."""

    def __init__(self):
        self.wrong, self.aliases, self.asked = [], {}, []

    def visit_Assign(self, node):
        """``a = trt.B`` and ``a, b = x, trt.B`` give B another name."""
        targets, values = (each.elts if isinstance(each, ast.Tuple) else [each] for each in (node.targets[0], node.value))
        for target, value in zip(targets, values, strict=False):
            path = self.path(value)
            if isinstance(target, ast.Name) and path:
                self.aliases[target.id] = path
        self.generic_visit(node)

    def visit_If(self, node):
        """Names of one family may stand behind ``hasattr``."""
        questions = [
            call for call in ast.walk(node.test) if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "hasattr"
        ]
        self.asked += [call.args[1].value for call in questions]
        self.generic_visit(node)
        del self.asked[len(self.asked) - len(questions) :]

    def visit_Attribute(self, node):
        path = self.path(node)
        if path and not all(known(table, path) for table in FULL):
            self.wrong.append(".".join(["trt", *path]))
        elif node.attr in DIFFERENT - OURS and node.attr not in self.asked:
            self.wrong.append(node.attr)
        self.generic_visit(node)

    def path(self, node):
        """What follows ``trt`` in a chain of attributes, or None."""
        chain = []
        while isinstance(node, ast.Attribute):
            chain.insert(0, node.attr)
            node = node.value
        chain.insert(0, getattr(node, "id", ""))
        if chain[0] in self.aliases:
            return [*self.aliases[chain[0]], *chain[1:]]
        return chain[chain.index("trt") + 1 :] if "trt" in chain else None


def known(table, path):
    """Whether a class, or a name of it, is in a table; what comes after that is Python's."""
    found = names(table, path[0]) if path else set()
    return found is not None and (len(path) < 2 or path[1] in found)


def wrong(code):
    reader = Reader()
    reader.visit(ast.parse(code))
    return reader.wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_names_of_both_families_are_written(path):
    assert wrong(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", ["trt.BuilderFlag.FP16"]),
        ("x, flags = 1, self.vendor.trt.BuilderFlag\nflags.INT8", ["trt.BuilderFlag.INT8"]),
        ("trt.IInt8Calibrator", ["trt.IInt8Calibrator"]),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", ["trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH"]),
        ("engine.create_execution_context_without_device_memory()", ["create_execution_context_without_device_memory"]),
        ("engine.device_memory_size", ["device_memory_size"]),
        ("refitter.release_refit_resources()", ["release_refit_resources"]),
        ("if hasattr(r, 'release_refit_resources'):\n    r.release_refit_resources()", []),
        ("trt.Logger.NOTHING", ["trt.Logger.NOTHING"]),
        ("int(trt.BuilderFlag.REFIT.value)", []),
    ],
)
def test_the_reader_notices(code, found):
    """It can fail."""
    assert wrong(code) == found
