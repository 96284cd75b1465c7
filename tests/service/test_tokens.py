"""No token, no answer; a role that is not enough does nothing."""

import base64
import datetime as dt
import stat
from http import HTTPStatus

import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.service.security import tokens_of
from audit_plugin.service.tokens import Role, Tokens, make_token
from audit_plugin.service_options import ServeOptions
from tests.service.world import backend, opened, serving


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def service(tmp_path, file):
    """A service that asks for tokens, and one token of each role."""
    tokens = {role: make_token(file, name=f"the-{role}", role=role) for role in Role}
    with opened(tmp_path) as store, serving(backend(store), tokens=str(file)) as (web, metrics):
        yield web, metrics, tokens


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_nobody_is_answered_without_a_token(service):
    """Whatever the path, there or not; browsers are asked for one; it is counted.  Metrics and health stay open."""
    web, metrics, _ = service
    for headers in (
        {},
        bearer("guess"),
        {"Authorization": "Bearer"},
        {"Authorization": "Basic !!"},
        {"Authorization": "Negotiate x"},
    ):
        for path in ("/", "/v1/runs", "/v1/openapi.json", "/nope"):
            answer = web.get(path, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (
                HTTPStatus.UNAUTHORIZED,
                "urn:audit-plugin:problem:unauthenticated",
            )
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert 'refused_total{reason="unauthenticated"} 20.0' in metrics.get("/metrics").text


@pytest.mark.parametrize(("role", "asks", "log"), [(Role.READ, 403, 403), (Role.RUN, 202, 403), (Role.ADMIN, 202, 200)])
def test_roles(service, role, asks, log):
    """Each includes those before it; the audit log names whose token it was."""
    web, _, tokens = service
    assert web.get("/v1/runs", headers=bearer(tokens[role])).status_code == HTTPStatus.OK
    assert web.post("/v1/runs", headers=bearer(tokens[role])).status_code == asks
    assert web.get("/v1/events", headers=bearer(tokens[role])).status_code == log
    if asks == HTTPStatus.ACCEPTED:
        events = web.get("/v1/events", headers=bearer(tokens[Role.ADMIN])).json()["items"]
        assert f"the-{role}" in [event["actor"] for event in events if event["action"] == "run_asked"]


def test_browsers_send_it_as_a_password(service):
    """And then may change something only from a page of ours."""
    web, _, tokens = service
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{tokens[Role.RUN]}".encode()).decode()}
    assert web.get("/v1/runs", headers=basic).status_code == HTTPStatus.OK
    ours = str(web.base_url).rstrip("/")
    assert (
        web.post("/v1/runs", headers=basic | {"Origin": ours, "Sec-Fetch-Site": "same-origin"}).status_code == HTTPStatus.ACCEPTED
    )
    assert web.post("/v1/runs", headers=basic | {"Origin": "https://evil.example"}).status_code == HTTPStatus.FORBIDDEN


def test_the_file_holds_hashes_and_only_its_owner_reads_it(file):
    """A token is shown once."""
    token = make_token(file, name="ann", role=Role.RUN)
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Tokens(file).who(token).role is Role.RUN


def test_a_line_that_goes_takes_the_token_back(file):
    """Without a restart, whatever else stands in the file; a file that is gone lets nobody in."""
    token = make_token(file, name="ann", role=Role.RUN)
    tokens = Tokens(file)
    text = file.read_text()
    file.unlink()
    assert (tokens.who(token), "No such file" in tokens.trouble) == (None, True)
    file.write_text("nonsense\n")
    assert (tokens.who(token), "line 1" in tokens.trouble) == (None, True)
    file.write_text("nonsense\n" + text)
    assert tokens.who(token).name == "ann"
    file.write_text("# nobody\n")
    assert (tokens.who(token), tokens.trouble) == (None, "")


def test_a_token_ends(file):
    """At the end of its last day."""
    token = make_token(file, name="ann", role=Role.READ, until=dt.date(2026, 12, 1))
    for day, good in ((1, True), (2, False)):
        assert (Tokens(file, today=lambda day=day: dt.date(2026, 12, day)).who(token) is not None) is good


@pytest.mark.parametrize(
    "line", ["ann", "ann boss sha256:" + "0" * 64, "ann run md5:00", "ann run sha256:00", "ann run sha256:" + "0" * 64 + " soon"]
)
def test_a_bad_file_is_a_config_error(file, line):
    """It names the line."""
    file.write_text(f"# tokens\n{line}\n")
    with pytest.raises(ConfigError, match=r"line 2: .*audit-plugin token"):
        Tokens(file)


def test_a_token_that_is_void_from_the_start_is_not_made(file):
    """Nor a second one of a name without a word."""
    with pytest.raises(ConfigError, match="is over"):
        make_token(file, name="ann", role=Role.READ, until=dt.date(2020, 1, 1))
    make_token(file, name="ann", role=Role.READ)
    with pytest.raises(ConfigError, match="knows ann already"):
        make_token(file, name="ann", role=Role.READ)


def test_a_name_is_one_word(file):
    """It stands in a line."""
    with pytest.raises(ConfigError, match="without spaces"):
        make_token(file, name="two words", role=Role.READ)


@pytest.mark.parametrize(
    ("host", "asked"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("10.1.2.3", True)]
)
def test_tokens_are_asked_for_anywhere_but_on_loopback(host, asked):
    """Such a configuration is refused."""
    if asked:
        with pytest.raises(ValueError, match=r"need a file of `tokens`; `audit-plugin token FILE"):
            ServeOptions(web_host=host)
    else:
        assert tokens_of(ServeOptions(web_host=host)) is None
