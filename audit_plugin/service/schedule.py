"""When audits are due: an interval, times of a clock; kept by APScheduler, on record in the store's jobs."""

import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from audit_plugin.crontab import trigger_of
from audit_plugin.service_options import ServeOptions

INTERVAL = "interval"
_FEW = 60
"""Times of a clock that are looked at to find the longest gap between two."""
_MOST_MISSED = 1000
_SLACK = dt.timedelta(seconds=1)
"""Of what intervals are off by rounding."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """Something that is audited again and again."""

    cause: str
    models: tuple[str, ...]
    """Empty string: all."""
    trigger: BaseTrigger
    first: dt.datetime | None
    """When it is due next; None: never again."""


def timetable(options: ServeOptions, last: dt.datetime | None, now: dt.datetime) -> tuple[Due, ...]:
    """What is audited when.  ``last``: end of the newest audit there is; an interval counts from there, and begins at once without."""
    found = []
    if options.every is not None:
        first = now if last is None else max(now, last + dt.timedelta(seconds=options.every))
        trigger = IntervalTrigger(seconds=options.every, start_date=first, timezone=dt.UTC)
        found.append(Due(cause=INTERVAL, models=("",), trigger=trigger, first=first))
    for schedule in options.schedules:
        trigger = trigger_of(schedule.cron, schedule.timezone)
        first = trigger.get_next_fire_time(None, now)
        found.append(Due(cause=f"schedule {schedule.cron}", models=schedule.models or ("",), trigger=trigger, first=first))
    return tuple(found)


def after(due: Due, now: dt.datetime) -> Due:
    """The same once what is due by now was asked for."""
    return due if due.first is None or due.first > now else replace(due, first=due.trigger.get_next_fire_time(due.first, now))


def missed_since(trigger: BaseTrigger, last: dt.datetime, now: dt.datetime) -> int:
    """How often it was due after ``last`` and up to ``now``, while nobody was there.

    >>> noon = trigger_of("0 12 * * *", "UTC")
    >>> missed_since(noon, dt.datetime(2026, 11, 1, 13, tzinfo=dt.UTC), dt.datetime(2026, 11, 4, 11, tzinfo=dt.UTC))
    2
    """
    times = _times(trigger, last + dt.timedelta(seconds=1))
    return sum(1 for _ in itertools.takewhile(lambda time: time <= now, itertools.islice(times, _MOST_MISSED)))


def longest_gap(dues: Sequence[Due], now: dt.datetime) -> float | None:
    """Seconds between two audits of everything at most; None where nothing audits everything."""
    whole = [due.trigger for due in dues if due.models == ("",)]
    gaps = []
    for trigger in whole:
        times = list(itertools.islice(_times(trigger, now), _FEW))
        gaps += (
            [max(seconds)]
            if (seconds := [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)])
            else []
        )
    return min(gaps, default=None)


def _times(trigger: BaseTrigger, start: dt.datetime) -> Iterator[dt.datetime]:
    """In UTC, where an hour that a clock shows twice is two hours."""
    at = start
    while (time := trigger.get_next_fire_time(None, at)) is not None:
        moment = time.astimezone(dt.UTC)
        if moment < at - _SLACK:  # the first of two, while it is the second already
            at += dt.timedelta(hours=1)
            continue
        yield moment
        at = max(moment, at) + dt.timedelta(microseconds=1)


class Clockwork:
    """Calls ``ask(cause, model)`` whenever something is due; in a thread of its own."""

    def __init__(self, dues: Sequence[Due], ask: Callable[[str, str], object]) -> None:
        self._scheduler = BackgroundScheduler(timezone=dt.UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
        for due in dues:
            for model in due.models:
                self._scheduler.add_job(ask, due.trigger, args=(due.cause, model), next_run_time=due.first)

    def start(self) -> None:
        """From now on."""
        self._scheduler.start()

    def stop(self) -> None:
        """No further calls."""
        self._scheduler.shutdown(wait=False)

    @property
    def next_time(self) -> dt.datetime | None:
        """When something is due next."""
        times = [job.next_run_time for job in self._scheduler.get_jobs() if job.next_run_time is not None]
        return min(times, default=None)
