"""What queries mean for a server, before it is asked."""

from audit_plugin.target.load import LoadOptions
from audit_plugin.target.load.pricing import added_load
from audit_plugin.target.options import TargetOptions


def target(**options):
    return TargetOptions(model="m", **options)


def test_the_slower_of_both_budgets_says_how_long_it_takes():
    """320 pictures at 32 a second; in batches of one, 320 requests at 20 a second."""
    told = added_load(320, [target(load=LoadOptions())])
    assert (told["requests_at_least"], told["seconds_on_the_server_at_least"]) == (10, 10.0)
    single = added_load(320, [target(load=LoadOptions(), max_batch=1)])
    assert (single["requests_at_least"], single["seconds_on_the_server_at_least"]) == (320, 16.0)
    assert (single["added_requests_per_second_at_most"], single["added_images_per_second_at_most"]) == (20.0, 32.0)


def test_without_a_budget_it_is_said_so():
    """Nobody reads a zero as a promise."""
    told = added_load(320, [target(load=None, concurrency=3)])
    assert "load: null" in told["added_requests_per_second_at_most"]
    assert (told["requests_in_flight_at_most"], told["seconds_on_the_server_at_least"], told["windows"]) == (3, 0.0, "always")


def test_windows_are_named():
    """An audit waits for them."""
    assert added_load(1, [target(load=LoadOptions(windows=("22:00-06:00",)))])["windows"] == "22:00-06:00"
