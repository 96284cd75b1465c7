"""The server kit: a real Triton without a container.

The ``tritonserver`` binary (2.51, CPU, Python backend; Linux x86-64 with glibc) travels inside the PyPI wheel ``nvidia-pytriton``.
The wheel's own requirements would hold this package back, so nothing of it is ever installed beside the product: the kit is a
directory with the unpacked wheel and an environment of its own, from which served models import NumPy and ONNX Runtime.

    python -m audit_plugin.demo.kit --dir .kit
"""

import argparse
import ctypes
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audit_plugin.core.errors import AuditError
from audit_plugin.core.seeds import digest

DEFAULT_DIRECTORY = Path(".kit")
WHEEL = "0.7.0"
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
STUBS = ((3, 11), (3, 12))
"""Oldest and newest Python that this package, the wheel's Python-backend stubs and NumPy 1.26 all support."""
GLIBC = (2, 35)
MODEL_REQUIREMENTS = ("numpy>=1.26,<2", "onnxruntime>=1.18,<2")
"""NumPy 2 arrays leave the stub, which was built against NumPy 1, as tensors of no bytes."""


class ServerUnsupportedError(AuditError):
    """The bundled Triton cannot run on this machine."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the bundled Triton server cannot run here: {why}; serve the models with the official container "
            "nvcr.io/nvidia/tritonserver and give its gRPC address as `target.url`"
        )


class KitError(AuditError):
    """The server kit could not be installed."""


@dataclass(frozen=True, kw_only=True)
class Kit:
    """Where an installed server kit lies."""

    root: Path
    """Directory of this kit version."""

    @property
    def binary(self) -> Path:
        """The ``tritonserver`` executable."""
        return self.root / "server" / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """Value of ``--backend-directory``."""
        return self.root / "server" / "pytriton" / "tritonserver" / "backends"

    @property
    def environment(self) -> Path:
        """Virtual environment that served Python models import from."""
        return self.root / "env"

    def process_environment(self) -> dict[str, str]:
        """Variables to start the server with: its own libraries first, its own Python first, one thread per model."""
        libraries = [self.root / "server" / "nvidia_pytriton.libs", *_libpython_directories()]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
        return inherited | {
            "LD_LIBRARY_PATH": _search_path(libraries, inherited.get("LD_LIBRARY_PATH")),
            "PATH": _search_path([self.environment / "bin"], inherited.get("PATH", os.defpath)),
            "OMP_NUM_THREADS": "1",
        }


def ensure_kit(directory: Path = DEFAULT_DIRECTORY) -> Kit:
    """Install the kit below ``directory`` unless it is there already.  Safe to call from several processes at once.

    Raises:
        ServerUnsupportedError: the binary cannot run on this platform.
        KitError: the packages could not be fetched.
    """
    refuse_unsupported_platform()
    directory = Path(directory).absolute()
    contents = digest(WHEEL_SHA256, *MODEL_REQUIREMENTS)[:8]
    kit = Kit(root=directory / f"triton-{WHEEL}-py{_python_version()}-{contents}")
    if not kit.binary.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with _lock(directory / "kit.lock"):
            if not kit.binary.exists():
                _install(kit.root)
    return kit


def refuse_unsupported_platform() -> None:
    """Raise ServerUnsupportedError, with the reason, where the binary cannot run."""
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "AMD64"}:
        raise ServerUnsupportedError(f"it is built for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    library, release = platform.libc_ver()
    if library != "glibc" or tuple(map(int, release.split("."))) < GLIBC:
        raise ServerUnsupportedError(
            f"it needs glibc {GLIBC[0]}.{GLIBC[1]} or newer, this is {library or 'another C library'} {release}"
        )
    oldest, newest = STUBS
    if not oldest <= sys.version_info[:2] <= newest:
        raise ServerUnsupportedError(
            f"its Python backend supports Python {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}, this is {_python_version()}"
        )
    if not _libpython_directories() and not _loadable(_libpython()):
        raise ServerUnsupportedError(
            f"its Python backend needs {_libpython()}, which this Python installation lacks (on Debian and Ubuntu: "
            f"`apt install libpython{_python_version()}`)"
        )


def _install(root: Path) -> None:
    """Build the kit in a sibling directory and move it into place in one step."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        kit = Kit(root=scratch)
        scratch.chmod(0o755)
        venv.create(kit.environment, with_pip=True)
        requirement = scratch / "server.txt"
        requirement.write_text(f"nvidia-pytriton=={WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        _pip_install(kit, "--no-deps", "--require-hashes", "--target", str(scratch / "server"), "-r", str(requirement))
        _pip_install(kit, *MODEL_REQUIREMENTS)
        stubs = kit.backends.parent / "python_backend_stubs"
        shutil.copy2(stubs / _python_version() / "triton_python_backend_stub", kit.backends / "python")
        scratch.rename(root)
    except (OSError, subprocess.CalledProcessError) as error:
        raise KitError(f"the server kit could not be installed in {root}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pip_install(kit: Kit, *arguments: str) -> None:
    command = [str(kit.environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise KitError(
            f"pip could not install {' '.join(arguments)}; check that the package index can be reached. pip says:\n{reason}"
        )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _libpython() -> str:
    return f"libpython{_python_version()}.so.1.0"


def _libpython_directories() -> list[Path]:
    """Directories of this Python that hold its shared library; empty where the system's loader has to find it."""
    candidates = [Path(str(sysconfig.get_config_var("LIBDIR"))), Path(sys.base_prefix) / "lib"]
    return [directory for directory in dict.fromkeys(candidates) if (directory / _libpython()).exists()]


def _loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _search_path(first: list[Path], rest: str | None) -> str:
    return os.pathsep.join([*map(str, first), *([rest] if rest else [])])


def main(arguments: list[str] | None = None) -> None:
    """Install the kit and print where it lies."""
    parser = argparse.ArgumentParser(prog="python -m audit_plugin.demo.kit", description="Install the bundled Triton server.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="where to install it (default: %(default)s)")
    try:
        print(ensure_kit(parser.parse_args(arguments).dir).root)
    except AuditError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
