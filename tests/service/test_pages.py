"""The pages: whole, escaped, self-contained, usable by keyboard and without a script."""

import asyncio
import datetime as dt
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import chain

import pytest
from starlette.testclient import TestClient

from audit_plugin.core.counterfactual_results import Counterfactual, CounterfactualFigures, CounterfactualResult
from audit_plugin.core.diffex_results import Exemplar
from audit_plugin.core.results import GateStatus, Pair
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.history import LifeCycle
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.service.backend import Audited, Backend
from audit_plugin.service.desk import Desk
from audit_plugin.service.logs import json_logger
from audit_plugin.service.pages import pages
from audit_plugin.service.pages.explorer import PAGE
from audit_plugin.service.pages.stream import events
from audit_plugin.service.refusals import Refusals
from audit_plugin.service.security import Gate
from audit_plugin.service.tokens import Role, Tokens, make_token
from audit_plugin.service.watch import Watch
from audit_plugin.service.web import web
from audit_plugin.service.worker import Worker
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.jobs import JobState
from audit_plugin.store.store import Store
from tests.findings.examples import clean, concept, gate, result
from tests.findings.trees import class_effects, node, tree
from tests.service.world import Audits, backend, opened, serving, until

NASTY = "<b>x</b> \"&'"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
SHA = hashlib.sha256(PNG).hexdigest()
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BASE = "http://127.0.0.1"


def pair(row, name="watermark", after=0.2, **changes):
    """A drawn pair that flips the decision."""
    return Pair(
        **{
            "row": row, "concept": name, "level_from": "yes", "level_to": "no", "before_sha256": SHA, "after_sha256": SHA,
            "before_caption": "a lesion", "after_caption": "a lesion", "score_before": 0.9, "score_after": after,
            "decision_before": "malignant", "decision_after": "malignant" if after > 0.5 else "benign", "choice": "random",
        } | changes
    )  # fmt: skip


def flip(image, *, flipped=True):
    """A counterfactual."""
    return Counterfactual(
        image=image, original="benign", target="malignant", before_sha256=SHA, after_sha256="0" * 64, flipped=flipped, before=0.1,
        after=0.8 if flipped else 0.3, l1=0.02, changed=0.1, attempts=3, network_rows=10, queries=4,
    )  # fmt: skip


FIGURES = CounterfactualFigures(
    images=2, flips=1, flip_ratio=None, free_ratio=None, jpeg_ratio=None, witness_ratio=None, median_l1=None, bounded_kl=None,
    changed_attributes=None, correlation_difference=None, no_side_change=None, noise_floor=None, chance=None, cout=None,
    network_rows=None, queries=None, seconds=None,
)  # fmt: skip


def whole(**changes):
    """A result with something of everything."""
    seen = node(
        "scene/ruler", exemplars=(Exemplar(image="i1", seed=0, percentile=50, effect=1.0, before_sha256=SHA, after_sha256=SHA),)
    )
    return conclude(
        result(
            **{
                "concepts": (concept(), concept(NASTY), clean()),
                "gates": (gate(), replace(gate("G4", GateStatus.FAIL, "watermark"), consequence="not assessable")),
                "pairs": tuple(pair(f"row-{at:02}", after=0.2 if at % 3 else 0.8) for at in range(60)),
                "diffex": tree(classes=(class_effects(seen),)),
                "counterfactuals": CounterfactualResult(
                    method="fastdime", rung="twin", rung_said="", passed_over=(), positive="malignant", figures=FIGURES, gaps=(),
                    items=(flip("a"), flip("b", flipped=False)),
                ),
            } | changes
        ),
        default_policy(),
    )  # fmt: skip


def desk_of(store, **more):
    """A desk whose worker never begins."""
    audited = (Audited(model="ham", label="lesion"), Audited(model=NASTY, label="lesion"))
    told = Backend(**{"store": store, "audit": "tests", "audited": audited, "picture": {SHA: PNG, "1" * 64: b"<svg>"}.get} | more)
    log, refusals = json_logger(io.StringIO()), Refusals()
    worker = Worker(told, ServeOptions(), log)
    return Desk(
        backend=told, worker=worker, watch=Watch(told, worker, log, seconds=1e9, trigger=False),
        collector=AuditCollector(store=store), refusals=refusals, queued=100,
    )  # fmt: skip


def client(desk, tokens=None, token=None):
    """A browser that follows nothing by itself."""
    app = Gate(
        app=web(desk, [pages(desk)], webhook_secret=None), tokens=tokens, refusals=desk.refusals, body_bytes=100_000, requests=8
    )
    headers = HTML | ({"Authorization": f"Bearer {token}"} if token else {})
    return TestClient(app, base_url=BASE, headers=headers, follow_redirects=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("pages") / "audit.db", migrate=True)
    done = whole()
    store.save(done)
    store.save(whole(run="20261123T080000.000000Z-00000002", finished="2026-11-23T08:05:00Z", model=NASTY, version=NASTY))
    desk = desk_of(store)
    store.jobs.ask(model=NASTY, cause="page", by="tests")
    job = store.jobs.begin()
    store.jobs.end(job, JobState.SUCCEEDED_WITH_FINDINGS, "", [done.run])
    store.jobs.line(job.id, "info", f"scored {NASTY}")
    with client(desk) as browser:
        yield browser, store, done, job
    store.close()


def paths(site):
    """One of every page."""
    _, store, done, job = site
    finding = store.findings(model="ham")[0].finding
    return (
        "/", "/models/ham", "/models/%3Cb%3Ex%3C%2Fb%3E%20%22%26%27", "/runs", f"/runs/{job.id}", f"/results/{done.run}",
        f"/results/{done.run}/pictures", f"/results/{done.run}/pictures?kind=node", f"/results/{done.run}/pictures?kind=counterfactual",
        f"/results/{done.run}/pictures/2", "/findings", "/findings?state=all&model=ham", f"/findings/{finding}", "/help", "/nowhere",
    )  # fmt: skip


class Checked(HTMLParser):
    """What is wrong with a page."""

    def __init__(self):
        super().__init__()
        self.wrong, self.labels, self.fields, self.headings, self.ids, self.text = [], set(), [], [], [], ""
        self._open = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self._open.append(tag)
        self.ids += [told["id"]] if "id" in told else []
        self.wrong += [f"{tag} {name}" for name in told if name == "style" or name.startswith("on")]
        self.wrong += [
            f"{tag} {value}" for name, value in attrs if name in {"src", "href", "action"} and not re.match(r"[/?#](?!/)", value)
        ]
        if tag == "style" or (tag == "script" and "src" not in told):
            self.wrong.append(f"{tag} in the page")
        if tag == "img" and not told.get("alt"):
            self.wrong.append("img without alt")
        if tag == "svg" and not told.get("aria-label"):
            self.wrong.append("svg without words")
        if "tabindex" in told and int(told["tabindex"]) > 0:
            self.wrong.append("tabindex")
        if tag == "label" and "for" in told:
            self.labels.add(told["for"])
        if tag in {"input", "select", "textarea"} and told.get("type") != "hidden" and "label" not in self._open:
            self.fields.append(told)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag == "th" and "scope" not in told:
            self.wrong.append("th without scope")
        if tag == "a" and "href" not in told:
            self.wrong.append("a without href")

    def handle_endtag(self, tag):
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data

    @property
    def problems(self):
        unnamed = [field for field in self.fields if field.get("id") not in self.labels and not field.get("aria-label")]
        jumps = [one for one in zip(self.headings, self.headings[1:], strict=False) if one[1] > one[0] + 1]
        twice = [one for one in self.ids if self.ids.count(one) > 1]
        return [*self.wrong, *unnamed, *jumps, *twice, *([] if self.headings.count(1) == 1 else ["h1"])]


def looked(text):
    page = Checked()
    page.feed(text)
    return page


def test_every_page_is_whole_escaped_and_self_contained(site):
    """No style, script or address of its own or elsewhere; every field has its name, every picture its words."""
    for path in paths(site):
        answer = site[0].get(path)
        assert answer.status_code == (404 if path == "/nowhere" else 200), path
        assert "<b>x" not in answer.text, path
        assert looked(answer.text).problems == [], path
        assert '<html lang="en">' in answer.text
        assert "style-src 'self'" in answer.headers["content-security-policy"]


def test_all_links_of_the_pages_lead_somewhere(site):
    """Each is followed once; reports and JSON too."""
    found = {
        re.sub("&amp;", "&", link)
        for path in paths(site)
        for link in re.findall(r'(?:href|src)="(/[^"#]*)', site[0].get(path).text)
    }
    lost = {link for link in found if site[0].get(link).status_code != 200}
    assert lost == {f"/pictures/{'0' * 64}"}
    assert len(found) > 40


@pytest.mark.parametrize(
    "path",
    [
        "/models/none",
        "/runs/none",
        "/results/none",
        "/results/none/pictures",
        "/findings/none",
        "/static/app.py",
        "/runs/none/stream",
    ],
)
def test_what_is_not_there_is_told_as_a_page_or_as_a_problem(site, path):
    browser = site[0]
    assert browser.get(path).status_code == 404
    assert "<h1>404 Not Found</h1>" in browser.get(path).text
    assert browser.get(path, headers={"Accept": "application/json"}).headers["content-type"] == "application/problem+json"


def test_a_model_that_was_never_audited_is_not_called_good(tmp_path):
    with client(desk_of(Store.open(tmp_path / "audit.db", migrate=True))) as browser:
        assert browser.get("/").text.count("No data does not mean no bias.") == 2
        assert "No data does not mean no bias." in browser.get("/models/ham").text


def test_the_fleet_tells_the_verdict_in_words(site):
    text = " ".join(looked(site[0].get("/").text).text.split())
    assert "▲ findings" in text.replace("\xa0", " ")
    assert "Model ham relies on watermark, which must not matter" in text
    assert "not looked at yet" in text


def test_pictures_are_pictures(site):
    browser = site[0]
    found = browser.get(f"/pictures/{SHA}")
    assert (found.content, found.headers["content-type"], found.headers["x-content-type-options"]) == (PNG, "image/png", "nosniff")
    assert "immutable" in found.headers["cache-control"]
    lost = ("0" * 64, "1" * 64, SHA.upper(), SHA[:63])
    assert {browser.get(f"/pictures/{sha}").status_code for sha in lost} == {404}


def test_style_and_script_are_kept_until_they_change(site):
    browser = site[0]
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', browser.get("/help").text):
        found = browser.get(path)
        assert "immutable" in found.headers["cache-control"]
        assert browser.get(path, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
        assert "no-cache" in browser.get(path.partition("?")[0]).headers["cache-control"]


def test_a_run_is_asked_for_and_cancelled_by_forms(site):
    browser, store, *_ = site
    asked = browser.post("/runs", data={"model": "ham"})
    assert (asked.status_code, asked.headers["location"][:6]) == (303, "/runs/")
    there = asked.headers["location"]
    page = browser.get(there).text
    assert f'action="{there}/cancel"' in page
    assert f'data-stream="{there}/stream"' in page
    assert browser.post(f"{there}/cancel").headers["location"] == there
    assert store.jobs.job(there.removeprefix("/runs/")).state is JobState.CANCELLED
    assert "/cancel" not in browser.get(there).text
    assert browser.post(f"{there}/cancel").status_code == 409
    assert browser.post("/runs", data={"model": "none"}).status_code == 404
    assert browser.post("/runs", data={"model": "ham"}, headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_a_finding_is_acknowledged_by_a_form_that_says_what_is_wrong(site):
    browser, store, *_ = site
    record = store.findings(model=NASTY)[0]
    there = f"/findings/{record.finding}"
    for sent, said in (
        ({"held": "week"}, "the reason is empty"),
        ({"reason": "x" * 501, "held": "week"}, "it may have 500"),
        ({"reason": "known"}, "Choose until when"),
        ({"reason": "known", "held": "day", "day": "soon"}, "Choose a date"),
        ({"reason": "known", "held": "day", "day": "2020-01-01"}, "in the future"),
        ({"reason": "a\x07b", "held": "week"}, "control characters"),
    ):
        answer = browser.post(there, data=sent)
        assert answer.status_code == 422
        assert said in answer.text
        assert sent.get("reason", "")[:10] in answer.text  # what was typed is not lost
    assert store.finding(record.finding).state is LifeCycle.OPEN
    assert browser.post(there, data={"reason": "known\r\nand mended", "held": "month"}).status_code == 303
    known = store.finding(record.finding)
    assert (known.state, known.acknowledged_by, known.acknowledged_reason) == (LifeCycle.ACKNOWLEDGED, "local", "known\nand mended")
    assert dt.timedelta(days=29) < known.acknowledged_until - dt.datetime.now(dt.UTC) < dt.timedelta(days=31)
    page = browser.get(there).text
    assert "local</strong> answers for it until" in page
    assert "finding acknowledged" in page
    assert record.finding not in browser.get("/findings").text
    assert record.finding in browser.get("/findings?state=acknowledged").text


def test_who_may_only_read_is_shown_no_buttons(site, tmp_path):
    _, store, *_ = site
    tokens = tmp_path / "tokens"
    token = make_token(tokens, name="reader", role=Role.READ)
    with client(desk_of(store), Tokens(tokens), token) as browser:
        for path in paths(site):
            assert 'method="post"' not in browser.get(path).text
        assert "you are <strong>reader</strong>" in browser.get("/").text
        assert browser.post("/runs").status_code == 403
        assert browser.get("/", headers={"Authorization": ""}).status_code == 401


def walked(browser, path, pattern):
    """What the pages of a list name, page by page."""
    found = []
    while path:
        page = browser.get(path).text
        found.append(re.findall(pattern, page))
        path = next((link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)">older', page)), None)
    return found


def test_lists_go_on_page_by_page(tmp_path):
    """Every run is on one page, none on two."""
    store = Store.open(tmp_path / "audit.db", migrate=True)
    for at in range(25):
        store.save(result(run=f"20261122T08{at:02}00.000000Z-00000000"))
    jobs = [store.jobs.ask(model="ham", cause="page", by="tests")[0].id for _ in range(55)]
    with client(desk_of(store)) as browser:
        pages_of_jobs = walked(browser, "/runs?model=ham", r'"Asked for"><a href="/runs/([^"]+)"')
        assert [len(one) for one in pages_of_jobs] == [50, 5]
        assert [*chain(*pages_of_jobs)] == jobs[::-1]
        pages_of_results = walked(browser, "/models/ham", r'"Finished"><a href="/results/([^"]+)"')
        assert [len(one) for one in pages_of_results] == [20, 5]
        assert [*chain(*pages_of_results)] == [record.run for record in store.runs()]
        assert "There is none." in browser.get("/runs?state=failed").text


def test_all_samples_are_shown_and_not_the_best_first(site):
    """In the order of the images; those that do not count, with the reason."""
    browser, _, done, _ = site
    there = f"/results/{done.run}/pictures"
    first, last = browser.get(there).text, browser.get(f"{there}?page=3").text
    rows = re.findall(r'clip">(row-\d+)<', first + browser.get(f"{there}?page=2").text + last)
    assert rows == [f"row-{at:02}" for at in range(60)]
    assert "60 of 60 samples" in " ".join(first.split())
    assert len(re.findall("<figure", first)) == PAGE
    kept = browser.get(f"{there}?flipped=no").text
    assert "20 of 60 samples" in " ".join(kept.split())
    assert "decision flips" not in kept
    assert "page 3 of 3" in browser.get(f"{there}?page=99").text
    missed = browser.get(f"{there}?kind=counterfactual&counts=no").text
    assert "not flipped in 3 tries" in missed
    assert missed.count("<figure") == 1


def test_samples_are_sorted_by_change_when_asked(site):
    browser, _, done, _ = site
    shown = re.findall(r"0\.9000 → (0\.\d+)", browser.get(f"/results/{done.run}/pictures?sort=least").text)
    assert shown == sorted(shown, reverse=True)


def test_samples_and_api_follow_what_another_process_deletes(tmp_path):
    """Without a restart."""
    store, other = (Store.open(tmp_path / "audit.db", migrate=True) for _ in range(2))
    done = whole()
    store.save(done)
    with client(desk_of(store)) as browser:
        assert "60 of 60 samples" in " ".join(browser.get(f"/results/{done.run}/pictures").text.split())
        other.retention.replace_document(
            done.run, lambda one: replace(one, pairs=one.pairs[1:]), by="ana", why="an image was deleted"
        )
        assert "59 of 59 samples" in " ".join(browser.get(f"/results/{done.run}/pictures").text.split())
    other.close()


def test_one_sample_leads_to_its_neighbours_in_the_same_choice(site):
    browser, _, done, _ = site
    there = f"/results/{done.run}/pictures"
    page = browser.get(f"{there}/2?flipped=no").text
    assert f'rel="prev" href="{there}/1?kind=concept&amp;flipped=no"' in page
    assert f'rel="next" href="{there}/3?kind=concept&amp;flipped=no"' in page
    assert "row-03" in page
    assert 'rel="prev"' not in browser.get(f"{there}/1").text
    assert browser.get(f"{there}/21?flipped=no").status_code == 404
    assert [browser.get(f"{there}/{at}").status_code for at in ("0", "x")] == [422, 422]


def said(text):
    """Events as (name, id, data)."""
    blocks = [
        dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")) for block in text.strip().split("\n\n")
    ]
    return [(one["event"], one.get("id"), json.loads(one["data"])) for one in blocks if "event" in one]


def test_the_stream_of_a_run_ends_with_it_and_resumes_after_the_last_line_seen(site):
    browser, store, *_ = site
    store.jobs.ask(cause="page", by="tests")
    job = store.jobs.begin()
    for text in ("one", "two\nevent: end", "three"):
        store.jobs.line(job.id, "info", text)
    store.jobs.end(job, JobState.FAILED, "no luck")
    there = f"/runs/{job.id}/stream"
    told = said(browser.get(there).text)
    lines = [(number, data["text"]) for name, number, data in told if name == "line"]
    assert [text for _, text in lines] == ["one", "two\nevent: end", "three"]
    assert told[-1][0] == "end"
    assert told[-1][2]["state"] == "failed"
    again = said(browser.get(there, headers={"Last-Event-ID": lines[1][0]}).text)
    assert [data["text"] for name, _, data in again if name == "line"] == ["three"]
    assert [data["text"] for name, _, data in said(browser.get(f"{there}?after={lines[1][0]}").text) if name == "line"] == ["three"]
    assert browser.get(there).headers["content-type"].startswith("text/event-stream")


def test_the_stream_tells_progress_as_it_comes_and_shows_that_it_lives(tmp_path):
    jobs = Store.open(tmp_path / "audit.db", migrate=True).jobs
    jobs.ask(cause="page", by="tests")
    job = jobs.begin()

    async def listen():
        heard = []
        async for event in events(jobs, job.id, after=0, turn=0.01, heartbeat=0.03):
            heard.append(event)
            if len(heard) == 2:
                jobs.report(job.id, done=1, total=4, doing="score")
            if event.startswith(": still there"):
                jobs.end(job, JobState.SUCCEEDED)
        return heard

    heard = asyncio.run(asyncio.wait_for(listen(), 10))
    told = [(name, data.get("percent")) for name, _, data in said("".join(heard))]
    assert told == [("progress", 0), ("progress", 25), ("progress", 25), ("end", None)]
    assert any(event.startswith(": still there") for event in heard)


def test_a_run_shows_its_log_and_the_gates_of_its_results(site):
    browser, _, _, job = site
    text = " ".join(looked(browser.get(f"/runs/{job.id}").text).text.split())
    assert f"info scored {NASTY}" in text
    assert "1 pass" in text.replace("\xa0", " ")
    assert "G4 fail: target parity (watermark): not assessable" in text


def test_a_running_service_streams_to_a_client_that_reads(tmp_path):
    """Over a socket: events come one by one while the run is under way, and pages are answered meanwhile."""
    with (
        opened(tmp_path) as store,
        serving(backend(store, Audits(store, steps=20, pause=0.05)), on_new_version=False) as (browser, _),
    ):
        there = browser.post("/runs", data={"model": "ham"}, follow_redirects=False).headers["location"]
        until(lambda: store.jobs.job(there.removeprefix("/runs/")).state is JobState.RUNNING)
        with browser.stream("GET", f"{there}/stream") as stream:
            assert browser.get("/", headers=HTML).status_code == 200
            text = "".join(stream.iter_text())
        told = said(text)
        assert told[-1][0] == "end"
        assert len([one for one in told if one[0] == "progress"]) > 1
