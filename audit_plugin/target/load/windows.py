"""Times at which a server may be asked, as operators write them: ``22:00-06:00`` or ``Sat,Sun 00:00-24:00``."""

import datetime as dt
import re
from dataclasses import dataclass

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(r"^(?:(?P<days>[A-Za-z,\-]+)\s+)?(?P<from>\d{2}:\d{2})-(?P<to>\d{2}:\d{2})$")
_MIDNIGHT = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Window:
    """Minutes of the days on which it begins; one that ends before it begins goes on after midnight."""

    days: frozenset[int]
    """0 is Monday."""
    start: int
    """Minutes since midnight."""
    stop: int
    """Minutes since midnight; 1440 is the next one."""

    def holds(self, moment: dt.datetime) -> bool:
        """Whether a moment, in the window's own time zone, lies in it."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.start < self.stop:
            return day in self.days and self.start <= minute < self.stop
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.stop)


def window(text: str) -> Window:
    """Read one.  Raises ValueError, with an example, for anything else.

    >>> window("Sat,Sun 00:00-24:00").days == {5, 6}
    True
    """
    found = _WINDOW.match(text.strip())
    start, stop = (_minutes(found[part]) if found else None for part in ("from", "to"))
    if found is None or start is None or stop is None or start in {stop, _MIDNIGHT}:
        raise ValueError(f"{text!r} is no window of time; write it as `22:00-06:00` or `Sat,Sun 00:00-24:00`")
    return Window(days=_days(found["days"], text), start=start, stop=stop)


def opens_in(windows: tuple[Window, ...], moment: dt.datetime) -> float:
    """Seconds until one of them is open; 0 when one is, or there are none."""
    if not windows or any(each.holds(moment) for each in windows):
        return 0.0
    minute = moment.replace(second=0, microsecond=0)
    for ahead in range(1, 7 * _MIDNIGHT + 2):
        at = minute + dt.timedelta(minutes=ahead)
        if any(each.holds(at) for each in windows):
            return (at - moment).total_seconds()
    raise AssertionError("every window opens within a week")


def _minutes(text: str) -> int | None:
    hours, minutes = map(int, text.split(":"))
    found = hours * 60 + minutes
    return found if minutes < 60 and found <= _MIDNIGHT else None


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    names, found = {name.lower(): at for at, name in enumerate(DAYS)}, set[int]()
    for part in text.split(","):
        first, _, last = part.lower().partition("-")
        if first not in names or (last and last not in names):
            raise ValueError(f"{part!r} in {whole!r} is no day; days are {', '.join(DAYS)}")
        begin, end = names[first], names[last or first]
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(found)
