"""Locked-down servers, for real: mutual TLS and protocols that the operator restricted."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError, TargetUnreachableError
from audit_plugin.demo.server import TritonServer
from audit_plugin.target.options import TargetOptions, TlsOptions
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.target.wire import RefusedError
from tests.fixtures.networks import LABELS, expected_probabilities

pytestmark = pytest.mark.triton
IMAGES = np.random.default_rng(4).random((2, 3, 16, 16), np.float32)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """An authority of our own, and a server and a client that it signed for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    new = ["req", "-newkey", "rsa:2048", "-nodes"]
    openssl(folder, *new, "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ["x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san"]
        openssl(folder, *sign, "-in", f"{name}.csr", "-out", f"{name}.pem")
    return folder


@pytest.fixture(scope="module")
def tls_server(triton_kit, colour_repository, certificates):
    arguments = [
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={certificates / 'server.pem'}",
        f"--grpc-server-key={certificates / 'server.key'}",
        f"--grpc-root-cert={certificates / 'ca.pem'}",
    ]
    with TritonServer(
        colour_repository, kit=triton_kit, log_file=certificates / "log", load=["colours"], arguments=arguments
    ) as server:
        yield server


def test_mutual_tls(tls_server, certificates):
    """With authority, certificate and key the server answers."""
    tls = TlsOptions(ca=certificates / "ca.pem", cert=certificates / "client.pem", key=certificates / "client.key")
    options = TargetOptions(model="colours", url=tls_server.grpc_url, version="1", output="probabilities", tls=tls)
    with TritonClassifier.connect(options) as target:
        np.testing.assert_allclose(target.predict(IMAGES), expected_probabilities(IMAGES), atol=1e-5)


def test_without_the_right_papers_nobody_answers(tls_server, certificates):
    """Plain text and a client without a certificate are both turned away with the address."""
    plain = TargetOptions(model="colours", url=tls_server.grpc_url, retries=0, deadline_seconds=5)
    for options in (plain, replace(plain, tls=TlsOptions(ca=certificates / "ca.pem"))):
        with pytest.raises(TargetUnreachableError, match=tls_server.grpc_url):
            TritonClassifier.connect(options)


def test_a_missing_certificate_is_a_configuration_error(tmp_path):
    """The path is named."""
    with pytest.raises(ConfigError, match=r"`tls\.ca` .*none\.pem"):
        TritonClassifier.connect(TargetOptions(model="m", tls=TlsOptions(ca=tmp_path / "none.pem")))


def test_restricted_protocols(triton_kit, colour_repository, tmp_path):
    """With the key everything works; without it the audit sees no configuration and is told why it may not ask."""
    (tmp_path / "key").write_text("sesame\n")
    arguments = ["--grpc-restricted-protocol=inference,model-config:audit-key=sesame"]
    with TritonServer(
        colour_repository, kit=triton_kit, log_file=tmp_path / "log", load=["colours"], arguments=arguments
    ) as server:
        locked = TargetOptions(model="colours", url=server.grpc_url, version="1", output="probabilities", labels=LABELS)
        with TritonClassifier.connect(locked) as target:
            assert any("no model configuration" in note for note in target.notes)
            with pytest.raises(RefusedError, match="restricted_key"):
                target.predict(IMAGES)
        opened = replace(locked, restricted_key="audit-key", restricted_key_file=tmp_path / "key")
        with TritonClassifier.connect(opened) as target:
            np.testing.assert_allclose(target.predict(IMAGES), expected_probabilities(IMAGES), atol=1e-5)
            assert target.notes == ()
