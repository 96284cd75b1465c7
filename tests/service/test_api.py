"""The REST API: what it takes, what it answers, what it refuses."""

import datetime as dt
import hashlib
import hmac
from http import HTTPStatus

import pytest

from audit_plugin.core.results import from_json
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.service.backend import Seen
from audit_plugin.store.jobs import JobState
from tests.findings.examples import result
from tests.service.world import Audits, backend, opened, serving, until

DONE = result()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A service with one finished audit, whose runs take a while."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "secret").write_text("s3cret\n")
    with opened(folder) as store:
        store.save(conclude(DONE, default_policy()))
        runs = Audits(store, steps=20, pause=0.01)
        seen = [Seen(model="ham", label="lesion", up=True, detail="triton 2", version="1", config_hash="")]
        options = {"on_new_version": False, "queued": 5, "webhook_secret_file": str(folder / "secret")}
        with serving(backend(store, runs, look=lambda: seen), **options) as (web, metrics):
            until(lambda: web.get("/v1/models").json()["items"][0]["up"])
            yield web, metrics, store, runs


@pytest.fixture
def web(site):
    yield site[0]
    for job in site[2].jobs.jobs():
        site[2].jobs.cancel(job.id, "the end of the test")
    until(lambda: all(job.state.ended for job in site[2].jobs.jobs()))


def refused(site, reason):
    line = next(line for line in site[1].get("/metrics").text.splitlines() if f'refused_total{{reason="{reason}"}}' in line)
    return float(line.split()[-1])


def problem(answer, status, code):
    """Whether the answer is a problem document of that kind; returns what it says."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (answer.status_code, document["status"], document["type"]) == (status, status, f"urn:audit-plugin:problem:{code}")
    return document["detail"]


def test_a_run_from_the_question_to_its_result(web):
    """202 with Location; state, progress and log meanwhile; the result in the end."""
    asked = web.post("/v1/runs", json={"model": "ham"})
    assert (asked.status_code, asked.json()["state"], asked.json()["asked_by"]) == (HTTPStatus.ACCEPTED, "queued", "local")
    where = asked.headers["Location"]
    assert where == asked.json()["links"]["self"]
    going = until(lambda: (found := web.get(where).json())["progress"]["total"] and found)
    assert (going["state"], going["progress"]["doing"]) == ("running", "score")
    done = until(lambda: (found := web.get(where).json())["finished_at"] and found)
    assert done["state"] == "succeeded_with_findings"
    assert next(line["text"] for line in web.get(f"{where}/log").json()["items"]) == "score"
    document = web.get(done["results"][0]["href"])
    assert from_json(document.text).model == "ham"
    assert (
        web.get(done["results"][0]["href"], headers={"If-None-Match": document.headers["ETag"]}).status_code
        == HTTPStatus.NOT_MODIFIED
    )


def test_the_same_key_asks_for_the_same_run(web):
    """A client that does not know whether it was heard asks again."""
    first, again = (web.post("/v1/runs", json={"model": "ham"}, headers={"Idempotency-Key": "k1"}).json() for _ in range(2))
    assert first["id"] == again["id"]
    problem(web.post("/v1/runs", headers={"Idempotency-Key": "k1"}), 422, "key-reused")


def test_cancelling(site, web, monkeypatch):
    """One under way stops; one that has ended says so."""
    monkeypatch.setattr(site[3], "steps", 1000)
    ids = [web.post("/v1/runs").json()["id"] for _ in range(2)]
    until(lambda: web.get(f"/v1/runs/{ids[0]}").json()["state"] == "running")
    assert web.delete(f"/v1/runs/{ids[1]}").json()["state"] == "cancelled"
    assert web.delete(f"/v1/runs/{ids[0]}").status_code == HTTPStatus.ACCEPTED
    until(lambda: web.get(f"/v1/runs/{ids[0]}").json()["state"] == "cancelled")
    problem(web.delete(f"/v1/runs/{ids[0]}"), 409, "run-ended")


def test_a_full_queue_is_said_so(site, web, monkeypatch):
    """With a time to come back; nothing grows without bound."""
    monkeypatch.setattr(site[3], "steps", 1000)
    before = refused(site, "busy")
    answers = [web.post("/v1/runs") for _ in range(8)]
    assert "5 runs wait already" in problem(answers[-1], 429, "queue-full")
    assert answers[-1].headers["Retry-After"] == "60"
    known = web.post("/v1/runs", headers={"Idempotency-Key": "early"})
    assert known.status_code == HTTPStatus.TOO_MANY_REQUESTS
    web.delete(f"/v1/runs/{answers[3].json()['id']}")
    first = web.post("/v1/runs", headers={"Idempotency-Key": "early"}).json()["id"]
    assert web.post("/v1/runs", headers={"Idempotency-Key": "early"}).json()["id"] == first
    assert refused(site, "busy") > before


def test_pages_of_runs(web, site):
    """Newest first, by cursor, each once."""
    for _ in range(5):
        web.post("/v1/runs", json={"model": "ham"})
    seen, cursor = [], None
    while True:
        page = web.get("/v1/runs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [run["id"] for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [job.id for job in site[2].jobs.jobs(limit=200)] == sorted(seen, reverse=True)
    assert {run["model"] for run in web.get("/v1/runs", params={"model": "spam"}).json()["items"]} <= {None}


def test_models_findings_and_alerts(web):
    """What the fleet looks like to a script."""
    (model,) = web.get("/v1/models").json()["items"]
    assert (model["up"], model["version"], model["last_result"]["label"], model["open_findings"] > 0) == (True, "1", "lesion", True)
    assert web.get("/v1/models/ham").json()["items"] == [model]
    findings = web.get("/v1/findings", params={"state": "open"}).json()["items"]
    assert any(finding["concept"] == "watermark" for finding in findings)
    assert "AuditPluginReliesOnSpuriousConcept" in {alert["name"] for alert in web.get("/v1/alerts").json()["items"]}
    assert web.get("/v1/results").json()["items"][-1]["id"] == DONE.run


def test_acknowledging_a_finding(web):
    """With a reason and an end; on record with who did it."""
    finding = web.get("/v1/findings").json()["items"][0]["id"]
    until_then = (dt.datetime.now(dt.UTC) + dt.timedelta(days=7)).isoformat()
    where = f"/v1/findings/{finding}/acknowledgement"
    answer = web.post(where, json={"reason": "label noise, ticket 12", "until": until_then}).json()
    assert (answer["state"], answer["acknowledged_by"], answer["acknowledged_reason"]) == (
        "acknowledged",
        "local",
        "label noise, ticket 12",
    )
    assert ("finding_acknowledged", "local") in [(each["action"], each["actor"]) for each in web.get("/v1/events").json()["items"]]
    for body in (
        {"reason": "x", "until": "2020-01-01T00:00:00Z"},
        {"reason": " ", "until": until_then},
        {"reason": "x", "until": "2999-01-01T00:00:00Z"},
        {"reason": "x", "until": "2027-01-01T00:00:00"},
        {"reason": "", "until": until_then},
    ):
        problem(web.post(where, json=body), 422, "invalid")


def test_a_registry_says_that_there_is_a_new_version(site, web):
    """Signed, and nothing else; it names a model that is configured, never an address."""
    body = b'{"model": "ham", "version": "9"}'
    signature = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    answer = web.post(
        "/v1/hooks/model-version", content=body, headers={"X-Audit-Signature": signature, "Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["cause"]) == (HTTPStatus.ACCEPTED, "webhook ham:9")
    before = refused(site, "signature")
    for wrong in ({}, {"X-Audit-Signature": "sha256=00"}):
        problem(web.post("/v1/hooks/model-version", json={"model": "ham"}, headers=wrong), 401, "signature")
    assert refused(site, "signature") == before + 2


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/runs/nope", "unknown-run"),
        ("/v1/results/nope", "unknown-result"),
        ("/v1/findings/nope", "unknown-finding"),
        ("/v1/models/nope", "unknown-model"),
        ("/reports/nope", "unknown-result"),
        ("/v1/nope", "not-found"),
    ],
)
def test_what_is_not_there(web, path, code):
    """Says where to look."""
    assert "/" in problem(web.get(path), 404, code)


@pytest.mark.parametrize(
    "path",
    ["/v1/runs/%2e%2e/%2e%2e/etc/passwd", "/reports/..%2F..%2Fetc%2Fpasswd", "/static/..%5c..", "/v1/%252e%252e/x", "/a%00b"],
)
def test_paths_that_climb_are_refused(site, web, path):
    """Before anything looks at them."""
    before = refused(site, "bad_path")
    problem(web.get(path), 400, "bad-path")
    assert refused(site, "bad_path") == before + 1


@pytest.mark.parametrize("field", ["url", "callback", "host", "Endpoint"])
def test_no_caller_says_where_to_connect_to(site, web, field):
    """Server-side request forgery: there is no field for it, and whoever tries is counted."""
    before = refused(site, "address")
    said = problem(web.post("/v1/runs", json={"model": "ham", field: "http://169.254.169.254/latest/meta-data"}), 422, "invalid")
    assert "169.254" not in said
    assert refused(site, "address") == before + 1


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model": 5}', b'{"modle": "ham"}', b"\xff\xfe", b'{"model": ""}', b'{"model": "a\\u0000b"}']
)
def test_a_body_that_is_not_what_it_should_be(site, web, body):
    """Named, counted, never an error of ours."""
    before = refused(site, "invalid")
    problem(web.post("/v1/runs", content=body, headers={"Content-Type": "application/json"}), 422, "invalid")
    assert refused(site, "invalid") == before + 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_over_the_limit(site, web, streamed):
    """Refused by its length where it says so, else when the limit is passed."""
    before, body = refused(site, "too_large"), b"x" * 1_200_000
    content = iter([body[:600_000], body[600_000:]]) if streamed else body
    problem(web.post("/v1/runs", content=content), 413, "too-large")
    assert refused(site, "too_large") == before + 1


def test_another_site_cannot_speak_through_a_browser(site, web):
    """Neither by a form on its page, nor by a name that it lets point at this machine."""
    before = refused(site, "foreign_origin")
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        problem(web.post("/v1/runs", headers=headers), 403, "foreign-origin")
    problem(web.get("/v1/runs", headers={"Host": "evil.example:18878"}), 403, "foreign-origin")
    assert refused(site, "foreign_origin") == before + 4
    assert "access-control-allow-origin" not in web.get("/v1/runs", headers={"Origin": "https://evil.example"}).headers


def test_every_answer_has_its_headers(web):
    """No sniffing, no framing, nothing from elsewhere, nothing kept."""
    for path in ("/v1/runs", "/v1/nope"):
        headers = web.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def test_jobs_are_listed_by_state(web, site):
    """For whoever waits for them."""
    web.post("/v1/runs")
    until(lambda: all(job.state.ended for job in site[2].jobs.jobs()))
    done = web.get("/v1/runs", params={"state": "succeeded_with_findings"}).json()["items"]
    assert {run["state"] for run in done} == {JobState.SUCCEEDED_WITH_FINDINGS.value}
