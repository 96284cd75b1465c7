"""The pages in a browser: nothing is wider than a phone, keys do what they say, a run is followed live."""

import re
import struct
import zlib

import pytest

from audit_plugin.core.results import GateStatus
from audit_plugin.service.backend import Audited
from tests.findings.examples import concept, gate
from tests.service.browser import CHROMIUM, browsing
from tests.service.test_pages import SHA, whole
from tests.service.world import HAM, Audits, backend, opened, serving, until

LONG = "a_model_with_a_name_that_is_longer_than_any_window_is_wide_" * 2
RED, BLUE = b"\xff\x00\x00", b"\x00\x00\xff"


def png(colour, size=32):
    """A picture of one colour."""
    rows = zlib.compress((b"\0" + colour * size) * size)
    parts = (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_pages_in_a_browser(tmp_path):
    """One browser for all, as starting it is what takes time."""
    with opened(tmp_path) as store:
        gates = tuple(gate(f"G{at}", GateStatus.FAIL, LONG) for at in range(3))
        done = whole(
            model=LONG, version=LONG[:60], headline=f"{LONG} relies on watermark", concepts=(concept(), concept(LONG)), gates=gates
        )
        store.save(done)
        runs = Audits(store, steps=24, pause=0.05)
        told = backend(
            store, runs, audited=(*HAM, Audited(model=LONG, label="lesion")), picture=lambda sha: png(RED if sha == SHA else BLUE)
        )
        with serving(told, on_new_version=False) as (web, _), browsing() as page:
            site = str(web.base_url).rstrip("/")
            finding = store.findings()[0].finding
            nothing_overflows(
                page,
                site,
                (
                    "/",
                    f"/models/{LONG}",
                    "/runs",
                    f"/results/{done.run}",
                    f"/results/{done.run}/pictures",
                    f"/results/{done.run}/pictures/1",
                    "/findings",
                    f"/findings/{finding}",
                    "/help",
                    "/nothing",
                ),
            )
            keys_work(page, site, done.run)
            a_run_is_followed(page, site, store)


def nothing_overflows(page, site, paths):
    """At the width of a phone; on a desk those with the widest tables."""
    for width, some in ((360, paths), (1280, paths[:4])):
        page.size(width, 800)
        for path in some:
            page.open(site + path)
            told = page.run("[document.documentElement.dataset.width, document.documentElement.dataset.overflow]")
            assert told == [str(width), "no"], (width, path)
    assert page.shot().startswith(b"\x89PNG")


def keys_work(page, site, run):
    """Tab reaches the skip link first; arrows lead to neighbours; space shows the other picture."""
    page.open(f"{site}/results/{run}/pictures")
    page.key("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.key("ArrowRight")
    page.until("location.search.includes('page=2') && document.readyState === 'complete'")
    page.open(f"{site}/results/{run}/pictures/1?kind=counterfactual")
    page.key(" ", "Space")
    assert page.run("document.querySelector('.viewer').className") == "viewer layered before"
    page.key(" ", "Space")
    assert page.run("document.querySelector('.viewer').className") == "viewer layered"
    assert page.run("document.querySelector('[data-layer]').getAttribute('aria-pressed')") == "true"
    page.key("ArrowRight")
    page.until("location.pathname.endsWith('/2') && document.readyState === 'complete'")


def a_run_is_followed(page, site, store):
    """A button asks for it; bar and log move by themselves; its end is shown without a key being pressed."""
    page.open(f"{site}/")
    page.run("document.querySelector('form button').focus()")
    page.key("Enter")
    page.until("/^.runs.\\w/.test(location.pathname) && document.readyState === 'complete'")
    job = page.run("location.pathname").removeprefix("/runs/")
    page.until("document.getElementById('bar')?.value > 10")
    assert re.search(r"info score", page.run("document.getElementById('lines').innerText"))
    until(lambda: store.jobs.job(job).state.ended)
    page.until("document.querySelector('h3 a') && !document.getElementById('bar')")
