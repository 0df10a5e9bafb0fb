"""Where functions run: the platforms' common protocol and values, and the lookup by name.

A platform turns a `Function` and an `Artifact` into a `Plan` without changing anything, and applies
the plan. Platforms do not know one another.
"""

from __future__ import annotations

from importlib import import_module

from fnbuild.builder.staging import Artifact as Artifact
from fnbuild.errors import UsageError
from fnbuild.platforms.audited import audited as _audited
from fnbuild.platforms.keys import Key as Key
from fnbuild.platforms.leftovers import ImageUse as ImageUse
from fnbuild.platforms.leftovers import Leftover as Leftover
from fnbuild.platforms.model import Deployment as Deployment
from fnbuild.platforms.model import Finding as Finding
from fnbuild.platforms.model import LogRecord as LogRecord
from fnbuild.platforms.model import Manifest as Manifest
from fnbuild.platforms.model import Plan as Plan
from fnbuild.platforms.model import Progress as Progress
from fnbuild.platforms.model import Project as Project
from fnbuild.platforms.model import Reservation as Reservation
from fnbuild.platforms.model import Restarts as Restarts
from fnbuild.platforms.model import Revision as Revision
from fnbuild.platforms.model import State as State
from fnbuild.platforms.model import Statistics as Statistics
from fnbuild.platforms.model import Step as Step
from fnbuild.platforms.protocol import OF_CONFLICTS as OF_CONFLICTS
from fnbuild.platforms.protocol import Platform as Platform

# The modules are imported on use: a platform may need packages that are slow to import.
_PLATFORMS = {
    "process": "fnbuild.platforms.process",
    "local": "fnbuild.platforms.docker",
    "kube": "fnbuild.platforms.kube",
    "nuclio": "fnbuild.platforms.nuclio",
}
_ALIASES = {"docker": "local", "kubernetes": "kube"}


def lookup(name: str) -> Platform:
    """The platform called `name`, whose changes are recorded as `audited` says.

    Its module offers `connect() -> Platform`.
    """
    name = _ALIASES.get(name, name)
    if name in _PLATFORMS:
        platform: Platform = import_module(_PLATFORMS[name]).connect()
        return _audited(platform)
    known = ", ".join([*_PLATFORMS, "auto"])
    raise UsageError(f'unknown platform "{name}"', hint=f"one of: {known}")
