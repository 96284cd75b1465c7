"""What the commands around the service say where something is not as it should be."""

from audit_plugin.service.tokens import Role, Tokens
from audit_plugin.store.leases import audit_lease
from audit_plugin.store.store import Store
from tests.end_to_end.site import cli


def test_a_token_is_printed_once(tmp_path):
    """Alone on stdout, so that a script can take it; its hash is in the file."""
    answer = cli("token", str(tmp_path / "tokens"), "--name", "ci", "--role", "run")
    assert (answer.code, answer.out.count("\n")) == (0, 1)
    assert Tokens(tmp_path / "tokens").who(answer.out.strip()).role is Role.RUN
    assert "ci as run" in answer.err


def test_pages_on_other_addresses_need_tokens(site):
    """Said before anything is listened on."""
    site.change(serve={"web_host": "0.0.0.0"})
    answer = site.run("serve")
    assert answer.code == 2
    assert "serve: pages and API on 0.0.0.0 need a file of `tokens`" in answer.err


def test_an_audit_by_hand_says_that_one_is_under_way(site):
    """And by whom."""
    store = Store.open(site.folder / "audit.sqlite", migrate=True)
    assert store.leases.take(audit_lease("end-to-end"), "another-host/12/ab", seconds=60)
    answer = site.run("run")
    store.close()
    assert answer.code == 3
    assert "audit end-to-end is held by another-host/12/ab; wait until it is done" in answer.err


def test_times_that_are_none_and_models_that_are_not_there(site):
    """Named by their place in the configuration."""
    site.change(serve={"schedules": [{"cron": "0 25 * * *"}]})
    assert "serve.schedules.0" in site.run("serve").err
    site.change(serve={"schedules": [{"cron": "0 3 * * *", "models": ["spam"]}]})
    answer = site.run("serve")
    assert answer.code == 2
    assert "serve.schedules.0.models: 'spam' is not configured; choose one of shape_background_100, shape_clean" in answer.err
