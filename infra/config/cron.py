"""Schedules as Kubernetes' CronJobs take them: five fields of cron, or a name for one."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from infra.config.base import broken_rule

NAMED = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
"""What each field is, its smallest and largest value, and names of its values from the smallest on."""

_ITEM = re.compile(r"(?P<first>\*|\?|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")

EXAMPLE = 'write five fields, "0 2 * * *" for two in the morning'


def _schedule(text: str) -> str:
    if text in NAMED:
        return text
    fields = text.split(" ")
    if len(fields) != len(FIELDS):
        raise broken_rule("minute, hour, day of the month, month and day of the week", EXAMPLE)
    for field, (what, low, high, names) in zip(fields, FIELDS, strict=True):
        for item in field.split(","):
            if not _is_of(item, low, high, names):
                raise broken_rule(f"{item!r} is no {what}, which goes from {low} to {high}", EXAMPLE)
    return text


def _is_of(item: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    found = _ITEM.fullmatch(item)
    if found is None or (found["step"] is not None and int(found["step"]) == 0):
        return False
    if found["first"] in ("*", "?"):
        return found["last"] is None
    first, last = (_value(text, low, names) for text in (found["first"], found["last"] or found["first"]))
    return first is not None and last is not None and low <= first <= last <= high


def _value(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text.isdigit():
        return int(text)
    return names.index(text.lower()) + low if text.lower() in names else None


Schedule = Annotated[str, AfterValidator(_schedule)]
"""When a job is due: `minute hour day-of-month month day-of-week`, or `@daily` and the like."""
