"""The folders that an image has already where fnbuild puts something.

They keep their owner and mode, and a link to another place is followed: a function that does not
run as root may have been given `/opt/nuclio` to write to, an environment `/usr/local/bin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLACES = ("/opt/nuclio", "/opt/fnbuild", "/usr/local/bin", "/etc/nuclio/config/processor")

# Any Python runs it, the oldest too.
SOURCE = f"""\
import os
def folders():
    places = dict((place, os.path.realpath(place)) for place in {PLACES})
    owners = {{}}
    for path in places.values():
        while path != "/":
            if os.path.isdir(path):
                about = os.lstat(path)
                owners[path] = [about.st_uid, about.st_gid, about.st_mode % 4096]
            path = os.path.dirname(path)
    return {{"places": places, "owners": owners}}
"""
"""Source of `folders()`, which runs in the image and gives what `parse` reads."""


@dataclass(frozen=True, slots=True)
class Folders:
    """`places` are real paths of PLACES; `owners` are user, group and mode of what is there."""

    places: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def real(self, path: str) -> str:
        """Where the path leads in the image."""
        for place, real in self.places.items():
            if path == place or path.startswith(f"{place}/"):
                return real + path[len(place) :]
        return path


def parse(raw: Any) -> Folders:
    """What `folders()` said. Raises ValueError, KeyError or TypeError for anything else."""
    places = {str(place): str(real) for place, real in raw["places"].items()}
    owners = {}
    for path, (user, group, mode) in raw["owners"].items():
        owners[str(path)] = (int(user), int(group), int(mode))
    return Folders(places, owners)
