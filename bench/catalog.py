"""The measured servers and their environments, from peers.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
CACHE = ROOT / ".cache" / "bench"

# The two rows that all others are compared with, and fnbuild's.
LIMIT = "limit"
LIMIT_DEFAULT = "limit-default"
OURS = "fnbuild"
TORCHSERVE = "torchserve"

# The environment of the limit, of fnbuild's workers, and of every compatible peer.
SHARED = "shared"


@dataclass(frozen=True)
class Environment:
    """A virtual environment: the handler's libraries and what its servers need."""

    name: str
    requirements: tuple[str, ...]
    borrowed: Path | None = None

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.borrowed or self.folder / "bin" / "python"


@dataclass(frozen=True)
class Server:
    """One row of the table. A `loop` calls the handler itself instead of serving HTTP.

    `forms` has the form of its requests for each workload of the inference protocols that it takes
    part in; `classic` is False if it takes part in no other.
    """

    name: str
    title: str
    environment: str
    command: tuple[str, ...]
    kind: Literal["http", "loop"] = "http"
    path: str = "/"
    needs: tuple[str, ...] = ()
    workers: int = 2
    forms: Mapping[str, str] = field(default_factory=dict)
    classic: bool = True


@dataclass(frozen=True)
class Catalog:
    """The content of the file."""

    workers: int
    environments: dict[str, Environment]
    servers: dict[str, Server]


class UnknownNameError(Exception):
    """A name on the command line that is not in the catalog."""


@cache
def load_catalog() -> Catalog:
    """Read peers.toml."""
    values = tomllib.loads((FOLDER / "peers.toml").read_text())
    libraries = values["libraries"]["requirements"]
    environments = {
        name: Environment(name, (*libraries, *entry["requirements"]))
        for name, entry in values["environments"].items()
    }
    servers = {
        name: Server(
            name,
            entry["title"],
            entry["environment"],
            tuple(entry["command"]),
            entry.get("kind", "http"),
            entry.get("path", "/"),
            tuple(entry.get("needs", ())),
            entry.get("workers", values["workers"]),
            entry.get("forms", {}),
            entry.get("classic", True),
        )
        for name, entry in values["servers"].items()
    }
    return Catalog(values["workers"], environments, servers)


def use_interpreter(python: Path) -> None:
    """Use another interpreter instead of the shared environment, which is then not needed."""
    environments = load_catalog().environments
    environments[SHARED] = replace(environments[SHARED], borrowed=python)


def choose_servers(names: str | None) -> list[Server]:
    """Return the servers of a comma-separated list, or all; the limit is always included."""
    servers = load_catalog().servers
    if names is None:
        return list(servers.values())
    wanted = {name.strip() for name in names.split(",")}
    unknown = wanted - set(servers)
    if unknown:
        choices = ", ".join(servers)
        raise UnknownNameError(
            f"no such server: {', '.join(sorted(unknown))} (there are {choices})"
        )
    return [server for name, server in servers.items() if name in wanted | {LIMIT}]
