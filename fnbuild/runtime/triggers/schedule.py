"""The schedule of a cron trigger: crontab's five fields, or six with the seconds first.

    minute hour day-of-month month day-of-week          */5 8-18 * * mon-fri
    second minute hour day-of-month month day-of-week   0 30 2 1,15 * *

Fields take `*` (or `?`), numbers, names (jan, mon), ranges `a-b`, steps `*/n`, `a-b/n` and `a/n`,
and lists of these. If both day fields are restricted, a day has to match one of them, as in
crontab. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` have their usual meaning. Times
are local times of the machine (TZ of the processor).
"""

import calendar
import time
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

_MONTHS = {
    name: number + 1
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    )
}
# Sunday is 0, and 7 too.
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# At most eight years lie between two 29ths of February.
_MAX_YEARS = 9


class _FieldKind(NamedTuple):
    """A field of schedules: its lowest and highest value, and the values that have names."""

    name: str
    low: int
    high: int
    names: Dict[str, int]


_FIELD_KINDS = (
    _FieldKind("second", 0, 59, {}),
    _FieldKind("minute", 0, 59, {}),
    _FieldKind("hour", 0, 23, {}),
    _FieldKind("day of month", 1, 31, {}),
    _FieldKind("month", 1, 12, _MONTHS),
    _FieldKind("day of week", 0, 7, _DAYS),
)


class ScheduleError(ValueError):
    """The text is not a schedule; the message names the field and its valid values."""


class Schedule:
    """A schedule parsed from text. Raises ScheduleError if the text is invalid."""

    def __init__(self, text: str) -> None:
        fields = _MACROS.get(text.strip().lower(), text).split()
        if text.strip().startswith("@") and len(fields) == 1:
            macros = ", ".join(sorted(_MACROS))
            raise ScheduleError('"%s" is not one of %s' % (text, macros))
        if len(fields) == 5:
            fields = ["0", *fields]
        if len(fields) != 6:
            raise ScheduleError(
                '"%s" has %d fields; a schedule has five (minute hour day month weekday), or six '
                "with seconds first" % (text, len(fields))
            )
        parsed = [_parse_field(kind, field) for kind, field in zip(_FIELD_KINDS, fields)]  # noqa: B905
        self._seconds, self._minutes, self._hours = (sorted(values) for values in parsed[:3])
        self._days, self._months = parsed[3], parsed[4]
        self._weekdays = frozenset(day % 7 for day in parsed[5])
        self._either = fields[3][0] not in "*?" and fields[5][0] not in "*?"
        if self.after(0.0) is None:
            raise ScheduleError('"%s" never occurs: no month has such a day' % text)

    def after(self, moment: float) -> Optional[float]:
        """Return the first time after `moment`, both in seconds since the epoch."""
        now = time.localtime(moment)
        for year in range(now.tm_year, now.tm_year + _MAX_YEARS):
            for month in sorted(self._months):
                if (year, month) < (now.tm_year, now.tm_mon):
                    continue
                for day in self._days_of(year, month):
                    if (year, month, day) < now[:3]:
                        continue
                    due = self._first_on((year, month, day), moment)
                    if due is not None:
                        return due
        return None

    def _days_of(self, year: int, month: int) -> List[int]:
        first, count = calendar.monthrange(year, month)
        return [day for day in range(1, count + 1) if self._fits(day, (first + day) % 7)]

    def _fits(self, day: int, weekday: int) -> bool:
        by_day, by_weekday = day in self._days, weekday in self._weekdays
        return (by_day or by_weekday) if self._either else (by_day and by_weekday)

    def _first_on(self, date: Tuple[int, int, int], moment: float) -> Optional[float]:
        """Return the first time on that day after `moment`."""
        now = time.localtime(moment)
        for hour in self._hours:
            if (date, hour) < (now[:3], now.tm_hour):
                continue
            for minute in self._minutes:
                for second in self._seconds:
                    clock = (hour, minute, second)
                    at = time.mktime((*date, *clock, 0, 0, -1))
                    # An hour that daylight saving time skips is not a time of that day.
                    if at > moment and time.localtime(at)[3:6] == clock:
                        return at
        return None


def _parse_field(kind: _FieldKind, text: str) -> FrozenSet[int]:
    values: List[int] = []
    for part in text.split(","):
        values += _parse_part(kind, part)
    return frozenset(values)


def _parse_part(kind: _FieldKind, text: str) -> List[int]:
    span, slash, step_text = text.partition("/")
    step = 1
    if slash:
        step = int(step_text) if _is_number(step_text) else 0
        if step < 1:
            raise _error(kind, text, "a step must be a positive number")
    if span in ("*", "?"):
        return list(range(kind.low, kind.high + 1, step))
    first, dash, last = span.partition("-")
    low = _parse_value(kind, first, text)
    high = _parse_value(kind, last, text) if dash else kind.high if slash else low
    if low > high:
        raise _error(kind, text, "the range goes backwards")
    return list(range(low, high + 1, step))


def _parse_value(kind: _FieldKind, text: str, whole: str) -> int:
    named = kind.names.get(text.lower())
    if named is not None:
        return named
    if _is_number(text) and kind.low <= int(text) <= kind.high:
        return int(text)
    choices = "%d to %d" % (kind.low, kind.high)
    if kind.names:
        choices += " or " + ", ".join(kind.names)
    raise _error(kind, whole, "it must be " + choices)


def _is_number(text: str) -> bool:
    return bool(text) and all(character in "0123456789" for character in text)


def _error(kind: _FieldKind, text: str, why: str) -> ScheduleError:
    return ScheduleError('"%s" is not a valid %s: %s' % (text, kind.name, why))
