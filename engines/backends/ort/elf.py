"""Which shared libraries a shared library asks the loader for, read from the file: nothing is loaded or run.

Layout after the System V ABI, chapters 4 and 5 (ELF header, program headers, dynamic section).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\x7fELF"
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5


def needed(path: Path) -> tuple[str, ...]:
    """Names under DT_NEEDED, in order.  Raises ValueError for a file that is not a whole ELF object, OSError for an unreadable one."""
    data = path.read_bytes()
    try:
        return _needed(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is cut off or damaged: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def _needed(data: bytes) -> tuple[str, ...]:
    if data[:4] != MAGIC:
        raise ValueError("is no ELF file")
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    segments = _segments(data, order, wide=wide)
    dynamic = next((each for each in segments if each.kind == PT_DYNAMIC), None)
    if dynamic is None:
        return ()
    entry = order + ("qQ" if wide else "iI")
    size = struct.calcsize(entry)
    entries = [struct.unpack_from(entry, data, dynamic.offset + at) for at in range(0, dynamic.size - size + 1, size)]
    used = entries[: next((i for i, (tag, _) in enumerate(entries) if tag == DT_NULL), len(entries))]
    strings = next((value for tag, value in used if tag == DT_STRTAB), None)
    names = [value for tag, value in used if tag == DT_NEEDED]
    if names and strings is None:
        raise ValueError("names libraries but has no string table")
    return tuple(_text(data, _offset(segments, int(strings or 0)) + name) for name in names)


def _segments(data: bytes, order: str, *, wide: bool) -> list[_Segment]:
    start = struct.unpack_from(order + ("Q" if wide else "I"), data, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", data, 54 if wide else 42)
    found = []
    for at in range(start, start + size * count, size):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(order + "IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(order + "IIIII", data, at)
        found.append(_Segment(kind, offset, address, length))
    return found


def _offset(segments: list[_Segment], address: int) -> int:
    """Where an address lies in the file."""
    for each in segments:
        if each.kind == PT_LOAD and each.address <= address < each.address + each.size:
            return each.offset + address - each.address
    raise ValueError("points outside itself")


def _text(data: bytes, at: int) -> str:
    end = data.index(b"\0", at)
    return data[at:end].decode()
