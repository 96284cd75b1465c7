"""Tables of the real bindings' names, checked in beside this file, and how they are made.

    pip download --no-deps -d WHEELS tensorrt-cu13-bindings==10.16.1.11 tensorrt-lean-cu13-bindings==10.16.1.11
    pip download --no-deps -d WHEELS tensorrt-cu13-bindings==11.4.0.106 tensorrt-lean-cu13-bindings==11.4.0.106
    python -m tests.engines.trt.tables WHEELS

A wheel of bindings has one extension module, which needs the vendor's libraries only for a few factory functions.  Libraries of
the same names that export just these are compiled here (``gcc``, ``nm`` and ``readelf``), so that the module can be imported in a
child process and asked for its classes.  Nothing may be called in it: the factories return null.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
WHEEL = re.compile(r"tensorrt_(lean_)?cu\d+_bindings-(\d+)\.(\d+)\.[\w.]+-cp311-.*\.whl")
FACTORY = re.compile(r"^\s+U ((?:create|get|init)\w+)$", re.MULTILINE)


def read(major, *, lean=False):
    """The checked-in table of a major version."""
    return json.loads((HERE / file_name(major, lean=lean)).read_text(encoding="utf-8"))


def file_name(major, *, lean=False):
    return f"names-{'lean-' if lean else ''}{major}.json"


def wheels(folder):
    """(path, major version, whether lean) of each wheel of bindings in a folder."""
    found = [(path, WHEEL.fullmatch(path.name)) for path in sorted(Path(folder).glob("*.whl"))]
    return [(path, int(match[2]), match[1] is not None) for path, match in found if match]


NULL = "return 0;"
DEAD = "static void *nothing[64]; return nothing;"
"""An object around null pointers: the first use of it ends the process."""


def unpacked(wheel, folder, body=NULL):
    """The wheel's extension module, in ``folder/site``, with libraries of ours to load it by in ``folder/lib``."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    (extension,) = (folder / "site").glob("*_bindings/*.so")
    names, needed = factories(extension), re.findall(r"NEEDED.*\[(libnv[^\]]+)\]", printed("readelf", "-d", extension))
    source = folder / "factories.c"
    source.write_text("".join(f"void *{name}(void) {{ {body} }}\n" for name in names), encoding="utf-8")
    (folder / "lib").mkdir()
    for library in needed:
        printed("gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / "lib" / library, source)
    return extension


def factories(extension):
    """C functions that the extension expects of the vendor's libraries: undefined, and of no versioned system library."""
    return sorted(set(FACTORY.findall(printed("nm", "-D", "--undefined-only", extension))))


def environment(folder):
    """Of a child process that is to import from an unpacked wheel."""
    return os.environ | {"PYTHONPATH": str(folder / "site"), "LD_LIBRARY_PATH": str(folder / "lib")}


def table(wheel):
    """What the module inside a wheel says of itself."""
    with tempfile.TemporaryDirectory() as name:
        module = unpacked(wheel, Path(name)).parent.name
        return json.loads(printed(sys.executable, HERE / "listing.py", module, env=environment(Path(name))))


def written(content):
    """One line a class, so that differences can be read."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content["classes"].items())
    head = {name: value for name, value in content.items() if name != "classes"}
    return f'{json.dumps(head)[:-1]}, "classes": {{\n{lines}\n}}}}\n'


def printed(*command, env=None):
    return subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, check=True).stdout


def main(folder):
    for path, major, lean in wheels(folder):
        target = HERE / file_name(major, lean=lean)
        target.write_text(written(table(path)), encoding="utf-8")
        print(f"{path.name} -> {target.name}")


if __name__ == "__main__":
    main(sys.argv[1])
