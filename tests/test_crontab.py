"""Times as crontab has them."""

import datetime as dt
import itertools

import pytest

from audit_plugin.crontab import trigger_of
from audit_plugin.service.schedule import longest_gap, missed_since, timetable
from audit_plugin.service_options import Schedule, ServeOptions

TUESDAY = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def days(cron, count=4):
    """The next days on which it comes."""
    trigger, at, found = trigger_of(cron, "UTC"), TUESDAY, []
    for _ in range(count):
        at = trigger.get_next_fire_time(None, at) + dt.timedelta(seconds=1)
        found.append(f"{at:%a %d}")
    return found


@pytest.mark.parametrize(
    ("cron", "coming"),
    [
        ("0 3 * * 0", ["Sun 29", "Sun 06", "Sun 13", "Sun 20"]),
        ("0 3 * * 7", ["Sun 29", "Sun 06", "Sun 13", "Sun 20"]),
        ("0 3 * * sun", ["Sun 29", "Sun 06", "Sun 13", "Sun 20"]),
        ("0 3 * * 1-5", ["Tue 24", "Wed 25", "Thu 26", "Fri 27"]),
        ("0 3 * * 5-7", ["Fri 27", "Sat 28", "Sun 29", "Fri 04"]),
        ("0 3 * * */3", ["Wed 25", "Sat 28", "Sun 29", "Wed 02"]),
        ("0 3 * * 1,MON,3/2", ["Wed 25", "Fri 27", "Mon 30", "Wed 02"]),
        ("0 3 1 * mon", ["Mon 30", "Tue 01", "Mon 07", "Mon 14"]),
        ("0 3 1,15 * *", ["Tue 01", "Tue 15", "Fri 01", "Fri 15"]),
    ],
)
def test_days_are_those_of_crontab(cron, coming):
    """Weeks begin on Sunday, 7 is Sunday again, and where both days are given either will do."""
    assert days(cron) == coming


@pytest.mark.parametrize("cron", ["0 3 * *", "0 25 * * *", "0 3 * * 8", "0 3 * * 5-1", "0 0 31 2 *", "", "@daily"])
def test_what_never_comes_is_refused(cron):
    """Before a service waits for it."""
    with pytest.raises(ValueError, match=r"is no time of a clock|never comes"):
        Schedule(cron=cron)


def test_the_hour_that_a_clock_shows_twice_is_counted_by_time():
    """The end of summer time: two nights missed, not a thousand times half past two."""
    night = trigger_of("30 2 * * *", "Europe/Berlin")
    gone, back = dt.datetime(2026, 10, 24, 1, tzinfo=dt.UTC), dt.datetime(2026, 10, 26, 3, tzinfo=dt.UTC)
    assert missed_since(night, gone, back) in {2, 3}
    dues = timetable(ServeOptions(schedules=(Schedule(cron="30 2 * * *", timezone="Europe/Berlin"),)), None, gone)
    assert longest_gap(dues, gone) <= 90_000


def test_a_schedule_of_single_days_has_a_gap_as_well():
    """Leap days: years apart."""
    dues = timetable(ServeOptions(schedules=(Schedule(cron="0 0 29 2 *"),)), None, TUESDAY)
    assert longest_gap(dues, TUESDAY) > 3 * 365 * 86_400
    assert list(itertools.chain(*(due.models for due in dues))) == [""]
