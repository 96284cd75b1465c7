"""Windows of time, as operators write them."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_plugin.target.load.windows import opens_in, window

MONDAY = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


def at(day, hour, minute=0):
    return MONDAY + dt.timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(("text", "inside", "outside"), [
    ("22:00-06:00", [at(0, 22), at(1, 5, 59), at(3, 0)], [at(0, 21, 59), at(0, 6), at(2, 12)]),
    ("Sat,Sun 00:00-24:00", [at(5, 0), at(6, 23, 59)], [at(4, 23, 59), at(7, 0)]),
    ("Fri-Mon 20:00-04:00", [at(4, 20), at(5, 3, 59), at(0, 21), at(1, 3)], [at(1, 20), at(2, 1), at(4, 3)]),
    ("wed 09:00-10:00", [at(2, 9, 30)], [at(2, 10), at(1, 9, 30)]),
])  # fmt: skip
def test_a_window_holds_what_it_says(text, inside, outside):
    assert all(window(text).holds(moment) for moment in inside)
    assert not any(window(text).holds(moment) for moment in outside)


@given(
    st.integers(0, 7 * 24 * 60 - 1),
    st.sampled_from(["22:00-06:00", "Sat,Sun 00:00-24:00", "Mon 03:00-03:01", "Fri-Mon 20:00-04:00"]),
)
def test_it_opens_when_it_is_said_to_and_not_before(minute, text):
    now, some = MONDAY + dt.timedelta(minutes=minute, seconds=20), (window(text),)
    seconds = opens_in(some, now)
    assert some[0].holds(now + dt.timedelta(seconds=seconds))
    assert seconds == 0 or not some[0].holds(now + dt.timedelta(seconds=seconds - 1))


def test_without_windows_it_is_always_open():
    assert opens_in((), MONDAY) == 0


@pytest.mark.parametrize(
    "text", ["", "22-6", "25:00-26:00", "10:00-10:00", "24:00-01:00", "10:61-11:00", "Someday 10:00-11:00", "Mon-Nix 10:00-11:00"]
)
def test_what_is_no_window_is_refused_with_an_example_or_the_days(text):
    with pytest.raises(ValueError, match=r"write it as|days are Mon, Tue"):
        window(text)
