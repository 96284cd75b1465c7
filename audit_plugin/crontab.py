"""Times as crontab has them, for APScheduler, whose own reading differs: it counts weekdays from Monday and wants both days to fit."""

import re

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

_FIELDS = 5
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def trigger_of(cron: str, timezone: str) -> BaseTrigger:
    """The trigger of a line with five fields.  Raises ValueError or LookupError for what is none.

    >>> import datetime as dt
    >>> at = trigger_of("0 3 * * 0", "UTC").get_next_fire_time(None, dt.datetime(2026, 11, 24, tzinfo=dt.UTC))
    >>> f"{at:%A %H:%M}"
    'Sunday 03:00'
    """
    fields = cron.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"five fields are needed, these are {len(fields)}")
    minute, hour, day, month, weekday = fields
    names = ",".join(_named(part) for part in weekday.split(","))
    times = {"minute": minute, "hour": hour, "month": month, "timezone": timezone}
    if day == "*" or weekday == "*":
        return CronTrigger(day=day, day_of_week=names, **times)
    return OrTrigger([CronTrigger(day=day, **times), CronTrigger(day_of_week=names, **times)])


def _named(part: str) -> str:
    """One part of the field of weekdays by names, each day for itself, since a week may end in the middle of a span."""
    found = re.fullmatch(r"(\*|\d)(?:-(\d))?(?:/(\d+))?", part)
    if found is None or part == "*":
        return part.lower()
    every, step = found[1] == "*", int(found[3] or 1)
    first = 0 if every else int(found[1])
    last = 6 if every or (found[3] and not found[2]) else int(found[2] or found[1])
    if last >= len(_DAYS) or first > last or step < 1:
        raise ValueError(f"{part!r} is no day of the week; 0 is Sunday, 6 is Saturday, 7 is Sunday again")
    return ",".join(dict.fromkeys(_DAYS[day] for day in range(first, last + 1, step)))
