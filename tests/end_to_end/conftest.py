"""One real Triton with the planted models, and one installation that has been audited, for tests that only look."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_plugin import wiring
from audit_plugin.demo.kit import Kit
from audit_plugin.demo.server import TritonServer
from tests.end_to_end.site import ROOT, Answer, RenderedGenerator, Site, make_site

ENGINE = wiring.EngineGenerator


@pytest.fixture(scope="session")
def planted(triton_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The two planted models of the repository on a real server."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(ROOT / "triton_repo", folder / "repository")
    with TritonServer(folder / "repository", kit=triton_kit, log_file=folder / "log") as server:
        yield server
        server.kill()  # a polite end takes seconds


@pytest.fixture(autouse=True)
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures come from the renderer, in the tests of this folder."""
    monkeypatch.setattr(wiring, "EngineGenerator", RenderedGenerator)


@pytest.fixture(scope="session")
def audited(planted: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Answer]:
    """An installation with 40 rows after its first audit, and what that audit said."""
    site = make_site(tmp_path_factory.mktemp("audited") / "site", 40, server={"url": planted.grpc_url})
    with_generator(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "EngineGenerator", RenderedGenerator)
        return site, site.run("run")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Eight rows, nothing drawn yet, no server."""
    return with_generator(make_site(tmp_path / "site", 8))


def with_generator(site: Site) -> Site:
    """A directory that stands for the generator's weights."""
    (site.folder / "generator").mkdir()
    (site.folder / "generator" / "weights").write_text("of the renderer")
    return site


@pytest.fixture
def real_engine() -> type:
    """The engine itself, whatever stands in its place."""
    return ENGINE
