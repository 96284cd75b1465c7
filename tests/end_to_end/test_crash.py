"""Whoever dies in mid-audit, the same command completes it, and nothing is drawn or asked twice."""

import shutil
import signal
import threading
from functools import partial

import pytest
import tritonclient.grpc as triton

from audit_plugin.config import load
from audit_plugin.demo.server import TritonServer
from audit_plugin.store.store import Store
from audit_plugin.wiring import Installation
from tests.end_to_end.site import ROOT, make_site
from tests.end_to_end.slow_cli import start, wait_until

pytestmark = pytest.mark.triton
MODEL = "shape_clean"


@pytest.fixture
def many(tmp_path, site):
    """Twenty-four rows and one model: some two hundred pictures, four requests."""
    whole = make_site(tmp_path / "many", 24, models=[{"model": MODEL, "label": "label", "positive": "positive"}])
    shutil.copytree(site.folder / "generator", whole.folder / "generator")
    return whole


def test_the_server_dies_and_comes_back(triton_kit, many, tmp_path):
    """Killed after the first batch, away for a second: the run waits, and every picture is scored exactly once."""
    shutil.copytree(ROOT / "triton_repo" / MODEL, tmp_path / "repository" / MODEL)
    over = threading.Event()
    with TritonServer(tmp_path / "repository", kit=triton_kit, log_file=tmp_path / "log") as server:
        many.change(server={"url": server.grpc_url, "retries": 8})

        def bring_back():  # the server ends with the thread that started it
            over.wait(1)
            server.start()
            over.wait()

        helper = threading.Thread(target=bring_back)

        unscored = []

        def crash(done, total, what):
            if what == "scores" and done and not unscored:
                unscored.append(total - done)
                server.kill()
                helper.start()

        loaded = load(many.config)
        store = Store.open(loaded.store_url, migrate=True)
        (result,) = Installation(loaded, crash).audit(store)
        with triton.InferenceServerClient(server.grpc_url) as client:
            counted = client.get_inference_statistics(MODEL).model_stats[0].inference_count
        store.close()
        over.set()
        helper.join()
    scores = many.scores()
    assert len({sha for _, sha, _ in scores}) == len(scores) == result.provenance.classifier_queries
    assert unscored
    assert counted == unscored[0] > 0


def has_drawn(site, pictures):
    return len(site.pictures()) >= pictures


def test_we_die_while_drawing(many):
    """The pictures of finished batches stay, twice; the next build draws the others.  Ctrl-C says so and ends with 130."""
    early = many.pictures()
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        process = start(many, "bank", "build")
        wait_until(partial(has_drawn, many, len(early) + 32), process)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == code, said
        assert ("error" in said or "Traceback" in said) is False
        assert set(early) <= set(many.pictures())
        early = many.pictures()
    answer = many.run("bank", "build", "--output", "json")
    assert answer.code == 0
    assert f'"images_reused": {len(early)}' in answer.out
    assert f'"images": {len(many.pictures()) - len(early)},' in answer.out
    assert set(early) <= set(many.pictures())


def test_we_die_while_scoring(planted, many):
    """Committed scores are not asked for again.  Killed without a word; that Ctrl-C ends a command with 130 is seen while drawing."""
    many.change(server={"url": planted.grpc_url})
    many.run("bank", "build")
    process = start(many, "run")
    wait_until(many.scores, process)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -9
    early = many.scores()
    answer = many.run("run", "--output", "json")
    assert answer.code in {0, 1}
    assert set(early) <= set(many.scores())
    assert f"{len(many.scores()) - len(early)} classifier queries" in answer.err
    assert 0 < len(early) < len(many.scores())
