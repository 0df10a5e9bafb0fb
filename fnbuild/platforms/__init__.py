"""Platforms run functions: their common protocol and values, and the lookup by name.

A platform turns a `Function` and an `Artifact` into a `Plan` without changing anything, and applies
the plan. Platforms do not know one another.
"""

from __future__ import annotations

from importlib import import_module

from fnbuild.builder.artifact import Artifact as Artifact
from fnbuild.errors import UsageError
from fnbuild.names import PLATFORMS
from fnbuild.platforms.audit import with_audit_log
from fnbuild.platforms.base import NO_CONNECT_OPTIONS as NO_CONNECT_OPTIONS
from fnbuild.platforms.base import ConnectOptions as ConnectOptions
from fnbuild.platforms.base import Deployment as Deployment
from fnbuild.platforms.base import Finding as Finding
from fnbuild.platforms.base import FunctionKey as FunctionKey
from fnbuild.platforms.base import FunctionState as FunctionState
from fnbuild.platforms.base import ImageUse as ImageUse
from fnbuild.platforms.base import Leftover as Leftover
from fnbuild.platforms.base import Project as Project
from fnbuild.platforms.base import RecordingAction as RecordingAction
from fnbuild.platforms.base import Reservation as Reservation
from fnbuild.platforms.base import Restarts as Restarts
from fnbuild.platforms.base import Revision as Revision
from fnbuild.platforms.base import ServiceStatus as ServiceStatus
from fnbuild.platforms.base import SleepAction as SleepAction
from fnbuild.platforms.base import Statistics as Statistics
from fnbuild.platforms.logs import ALL_RECORDS as ALL_RECORDS
from fnbuild.platforms.logs import LogOptions as LogOptions
from fnbuild.platforms.logs import LogRecord as LogRecord
from fnbuild.platforms.plans import NO_OPTIONS as NO_OPTIONS
from fnbuild.platforms.plans import Change as Change
from fnbuild.platforms.plans import Manifest as Manifest
from fnbuild.platforms.plans import Plan as Plan
from fnbuild.platforms.plans import PlanOptions as PlanOptions
from fnbuild.platforms.protocol import Platform as Platform
from fnbuild.progress import Progress as Progress


def lookup(name: str, connect_options: ConnectOptions = NO_CONNECT_OPTIONS) -> Platform:
    """Return the platform with this name; its changes are recorded in the audit log."""
    for entry in PLATFORMS:
        if name and name in (entry.name, entry.alias):
            # Imported on use: a platform may need packages that are slow to import.
            platform: Platform = import_module(entry.package).create_platform(connect_options)
            return with_audit_log(platform)
    names = ", ".join([*(entry.name for entry in PLATFORMS), "auto"])
    raise UsageError(f'unknown platform "{name}"', hint=f"one of: {names}")


def all_platforms(connect_options: ConnectOptions = NO_CONNECT_OPTIONS) -> list[Platform]:
    """Return all platforms in the order of their registration."""
    return [lookup(entry.name, connect_options) for entry in PLATFORMS]
