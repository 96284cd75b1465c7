import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from engines.backends.ort.elf import needed

LIBRARIES = ("libnvinfer.so.10", "libcudart.so.13")


def crafted(names=LIBRARIES, *, wide=True, order="<", strings=True):
    """A shared library that consists of its headers, one loaded segment at 0x1000 and the dynamic section within it."""
    table = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    places = [1 + sum(len(each) + 1 for each in names[:i]) for i in range(len(names))]
    header, program, entry = (64, 56, "qQ") if wide else (52, 32, "iI")
    at = header + 2 * program
    tags = [(1, place) for place in places] + ([(5, 0x1000 + at)] if strings else []) + [(0, 0), (1, 0)]
    dynamic = b"".join(struct.pack(order + entry, *each) for each in tags)
    size = at + len(table) + len(dynamic)

    def segment(kind, offset, length):
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, 4, offset, 0x1000 + offset, 0, length, length, 8)
        return struct.pack(order + "IIIIIIII", kind, offset, 0x1000 + offset, 0, length, length, 4, 8)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    rest = struct.pack(
        order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), 3, 62, 1, 0, header, 0, 0, header, program, 2, 0, 0, 0
    )
    return ident + rest + segment(1, 0, size) + segment(2, at + len(table), len(dynamic)) + table + dynamic


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_names_are_read_in_every_class_and_byte_order(tmp_path, wide, order):
    """Up to the end of the dynamic section, not beyond."""
    (tmp_path / "lib.so").write_bytes(crafted(wide=wide, order=order))
    assert needed(tmp_path / "lib.so") == LIBRARIES


def test_agrees_with_readelf():
    """On torch's own extension module."""
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("readelf is not installed")
    library = Path(torch.__file__).parent / "lib" / "libtorch_python.so"
    listing = subprocess.run([tool, "-d", str(library)], capture_output=True, text=True, check=True).stdout
    assert needed(library) == tuple(re.findall(r"\(NEEDED\).*\[(.*)\]", listing))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a library", "no ELF file"),
        (crafted()[:150], "cut off"),
        (crafted()[:70], "cut off"),
        (crafted(strings=False), "no string table"),
    ],
)
def test_damaged_files_are_said_to_be_so(tmp_path, content, message):
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"lib.so .*{message}"):
        needed(path)


def test_a_library_may_need_nothing(tmp_path):
    (tmp_path / "lib.so").write_bytes(crafted(()))
    assert needed(tmp_path / "lib.so") == ()
