"""Starts and stops the bundled Triton on a model repository, on free loopback ports.

python -m audit_plugin.demo.server triton_repo
"""

import argparse
import contextlib
import http.client
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from audit_plugin.core.errors import AuditError
from audit_plugin.demo.child import bound_to_parent, end_politely, kill_session
from audit_plugin.demo.kit import DEFAULT_DIRECTORY, Kit, ensure_kit

HOST = "127.0.0.1"
LOG_LINES = 25


def free_ports(n: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


class ServerStartError(AuditError):
    """The bundled Triton did not become ready."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where one server listens on the loopback interface."""

    grpc: int
    http: int
    metrics: int

    @classmethod
    def free(cls) -> Self:
        """Three ports that nothing listens on now."""
        grpc, http_, metrics = free_ports(3)
        return cls(grpc=grpc, http=http_, metrics=metrics)


class TritonServer:
    """A context manager around one ``tritonserver`` process that serves ``repository``.

    ``load`` switches to explicit model control with these models loaded at the start (a test can then load a new version);
    by default every model of the repository is served and nothing can be changed, as in production.  ``arguments`` are handed to
    the server as they are, e.g. to restrict protocols or to switch TLS on.
    Start it from a thread that outlives it: the kernel ends the server together with the thread that started it.
    """

    def __init__(
        self,
        repository: Path,
        *,
        kit: Kit,
        log_file: Path,
        load: Sequence[str] | None = None,
        ports: Ports | None = None,
        arguments: Sequence[str] = (),
        ready_seconds: float = 60.0,
        stop_seconds: float = 10.0,
    ) -> None:
        self.repository = Path(repository)
        self.kit = kit
        self.log_file = Path(log_file)
        self.load = load
        self.ports = ports or Ports.free()
        self.arguments = arguments
        self.ready_seconds = ready_seconds
        self.stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def grpc_url(self) -> str:
        """``host:port`` for tritonclient's gRPC client."""
        return f"{HOST}:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """``host:port`` of the HTTP endpoint."""
        return f"{HOST}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """URL of the server's own Prometheus metrics."""
        return f"http://{HOST}:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start the process and wait until every model is ready.  Raises ServerStartError with the end of the log."""
        if self.pid is not None:
            return self
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_parent(self._command()),
                env=self.kit.process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ask politely (SIGINT, then SIGTERM), then end what is left of the server's own process group."""
        process, self._process = self._process, None
        if process is None:
            return
        end_politely(process, (signal.SIGINT, signal.SIGTERM), patience_seconds=self.stop_seconds)

    def kill(self) -> None:
        """End the server at once, as a crash would.  ``start`` brings it back on the same ports."""
        process, self._process = self._process, None
        if process is not None:
            kill_session(process)

    def restart(self) -> Self:
        """Stop, then start again on the same ports."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _command(self) -> list[str]:
        explicit = self.load is not None
        return [
            str(self.kit.binary),
            f"--model-repository={self.repository.absolute()}",
            f"--backend-directory={self.kit.backends}",
            f"--model-control-mode={'explicit' if explicit else 'none'}",
            *(f"--load-model={name}" for name in self.load or ()),
            *(f"--{kind}-address={HOST}" for kind in ("grpc", "http", "metrics")),
            f"--grpc-port={self.ports.grpc}",
            f"--http-port={self.ports.http}",
            f"--metrics-port={self.ports.metrics}",
            "--disable-auto-complete-config",
            "--exit-timeout-secs=5",
            *self.arguments,
        ]

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + self.ready_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerStartError(f"the Triton server ended with exit code {process.returncode}; {self._log_tail()}")
            if _is_ready(self.ports.http):
                return
            time.sleep(0.1)
        raise ServerStartError(f"the Triton server was not ready after {self.ready_seconds:g} s; {self._log_tail()}")

    def _log_tail(self) -> str:
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line[:1] not in {"|", "+", ""}]
        return f"the last lines of {self.log_file}:\n" + "\n".join(lines[-LOG_LINES:])


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: list[str] | None = None) -> None:
    """Serve a model repository until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m audit_plugin.demo.server", description="Serve a model repository with Triton.")
    parser.add_argument("repository", type=Path, help="directory with one sub-directory per model")
    parser.add_argument("--kit", type=Path, default=DEFAULT_DIRECTORY, help="where the server kit lies (default: %(default)s)")
    parser.add_argument("--log-file", type=Path, default=Path("tritonserver.log"), help="server log (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            TritonServer(options.repository, kit=ensure_kit(options.kit), log_file=options.log_file) as server,
        ):
            print(
                f"gRPC     {server.grpc_url}\nHTTP     {server.http_url}\nmetrics  {server.metrics_url}\nCtrl-C stops it.",
                flush=True,
            )
            threading.Event().wait()
    except AuditError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
