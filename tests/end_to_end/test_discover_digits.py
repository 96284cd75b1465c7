"""A published classifier on a real server and a generator that draws other things: discovery runs to its end, and says that they do not fit."""

import pytest
import yaml

from audit_plugin import wiring
from audit_plugin.core.discovery_results import from_json
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from tests.end_to_end.site import ASSETS, cli
from tests.fixtures.digits import CLASSIFIER, LABELS, THERE, WHY, write_site

pytestmark = [pytest.mark.triton, pytest.mark.skipif(not THERE, reason=WHY)]
FEW = {
    "screen_seeds": 2,
    "shortlist": 4,
    "again_seeds": 4,
    "keep": 3,
    "pairs": 12,
    "beam": 2,
    "depth": 1,
    "compose_seeds": 4,
    "verify": 12,
}


def test_a_generator_of_scenes_tells_nothing_about_a_classifier_of_digits(triton_kit, tmp_path, real_engine, monkeypatch):
    """By scores alone, with the miniature generator; every answer is the server's."""
    monkeypatch.setattr(wiring, "EngineGenerator", real_engine)
    write_model(tmp_path / "models", "digits", CLASSIFIER, LABELS)
    places, lights = ("grass", "sand"), ("bright", "dim")
    (tmp_path / "said.txt").write_text(
        "\n".join(f"a small red circle on {place} in {light} light" for place in places for light in lights)
    )
    with TritonServer(tmp_path / "models", kit=triton_kit, log_file=tmp_path / "log") as server:
        config = write_site(tmp_path / "site", 64, server.grpc_url)
        document = yaml.safe_load(config.read_text())
        document |= {
            "explain": None,
            "generator": {"path": str(ASSETS / "generator"), "solver": 4},
            "discover": {
                "mode": "scores",
                "classes": ["digit 0", "digit 1"],
                "captions": str(tmp_path / "said.txt"),
                "options": FEW,
            },
        }
        config.write_text(yaml.safe_dump(document, sort_keys=False))
        answer = cli("discover", str(config), "--no-test")
        server.kill()
    assert answer.code == 0, answer.err
    (file,) = (config.parent / "bank" / "discoveries").glob("*.json")
    found = from_json(file.read_text())
    assert ([one.name for one in found.subjects], found.stopped) == (["digit 0", "digit 1"], "")
    assert found.queries > 100
    assert not found.fit.fits
    assert "take a generator of the model's domain" in found.fit.said
    assert found.fit.near_real.high < 0.1
    assert found.proposed == ()
    assert "take a generator of the model's domain" in " ".join(answer.out.split())
