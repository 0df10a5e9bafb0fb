"""The checks of `fnbuild doctor` for a Nuclio dashboard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from fnbuild.platforms import Finding
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.nuclio.client import DashboardClient

_AREA = "nuclio"


def examine(
    connect: Callable[[], DashboardClient], areas: Collection[str] = ()
) -> Iterator[Finding]:
    """Yield the finding on the dashboard that `connect` returns."""

    def answers() -> Iterator[Finding]:
        dashboard = connect()
        dashboard.check()
        yield Finding(_AREA, "ok", f"{dashboard.place} answers")

    return run_checks((Check(_AREA, answers),), areas)
