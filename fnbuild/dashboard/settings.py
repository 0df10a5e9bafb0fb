"""How a dashboard is set up: addresses, platforms, what it adds to every deploy."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

import fnbuild
from fnbuild.deploy.pipeline import DEFAULT_NAMESPACE
from fnbuild.errors import InputError, Report, UsageError
from fnbuild.function.decoder import Decoder
from fnbuild.function.reader import config_error
from fnbuild.function.source_text import read_source
from fnbuild.function.types import Function, Raw, Struct, to_dict
from fnbuild.function.yaml_parser import parse_yaml

DEFAULT_PORT = 8070
DEFAULT_HEALTH_PORT = 8082
NO_ADDRESS = "none"

# A link to functions/ at the top; in an installed fnbuild, its files.
_BUNDLED_LIBRARY = Path(fnbuild.__file__).with_name("library")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen. On an `open` one, reading and invoking need no token."""

    host: str
    port: int
    open: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Settings:
    """`platform` is where new functions go; `platforms` are those that are shown, all that are
    there when it is empty. `defaults` is a function that lies below each that is deployed here.
    With `read_token` no address is open, and a token for reading is made.
    """

    listen: tuple[ListenAddress, ...] = (ListenAddress("127.0.0.1", DEFAULT_PORT, open=True),)
    health: ListenAddress | None = ListenAddress("127.0.0.1", DEFAULT_HEALTH_PORT)
    namespace: str = DEFAULT_NAMESPACE
    platform: str = "process"
    platforms: tuple[str, ...] = ()
    registry: str = ""
    run_registry: str = ""
    no_pull: bool = False
    offline: bool = False
    external_ips: tuple[str, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    library: Path | None = None
    defaults: Raw = field(default_factory=dict)
    read_token: bool = False


class DashboardOptions(Struct, frozen=True):
    """What a configuration file may say; flags have the same names with dashes."""

    listen: list[str] = msgspec.field(default_factory=list)
    open: list[str] = msgspec.field(default_factory=list)
    health: str = ""
    read_token: bool = False
    allowed_hosts: list[str] = msgspec.field(default_factory=list)
    namespace: str = ""
    platform: str = ""
    platforms: list[str] = msgspec.field(default_factory=list)
    registry: str = ""
    run_registry: str = ""
    no_pull: bool = False
    offline: bool = False
    external_ip_addresses: list[str] = msgspec.field(
        default_factory=list, name="externalIPAddresses"
    )
    library: str = ""
    defaults: Function | None = None


def read_options(path: Path) -> DashboardOptions:
    """The configuration file at `path`: YAML with the keys of `Given` in camel case.

    Raises `ConfigError` with everything that is wrong with it, at its place.
    """
    report = Report()
    source = read_source(path, str(path), report)
    tree = parse_yaml(source) if source is not None else None
    given = DashboardOptions()
    if tree is not None:
        root, source = tree
        read_one = Decoder(source, strict=True).read(DashboardOptions, root)
        given = given if report.errors else read_one
    if any(one.rule != "empty" for one in report.errors):
        report.sort()
        raise config_error(report, str(path))
    return given


def make_settings(given: DashboardOptions, below: DashboardOptions) -> Settings:
    """The settings that `given` and, where it says nothing, `below` ask for.

    Raises `UsageError` and `InputError`.
    """
    values = msgspec.structs.asdict(below) | {
        name: value for name, value in msgspec.structs.asdict(given).items() if value
    }
    asked = DashboardOptions(**values)
    library = Path(asked.library).expanduser().absolute() if asked.library else _BUNDLED_LIBRARY
    if asked.library and not library.is_dir():
        raise InputError(
            f"there is no folder {library}", hint="`--library` takes a folder of function folders"
        )
    return Settings(
        listen=_listen_addresses(asked),
        health=None if asked.health == NO_ADDRESS else _health_address(asked.health),
        namespace=asked.namespace or DEFAULT_NAMESPACE,
        platform=asked.platform or "process",
        platforms=tuple(asked.platforms),
        registry=asked.registry,
        run_registry=asked.run_registry,
        no_pull=asked.no_pull,
        offline=asked.offline,
        external_ips=tuple(asked.external_ip_addresses),
        allowed_hosts=frozenset(asked.allowed_hosts),
        library=library,
        defaults=to_dict(asked.defaults) if asked.defaults else {},
        read_token=asked.read_token,
    )


def _listen_addresses(asked: DashboardOptions) -> tuple[ListenAddress, ...]:
    listen = [parse_address(one, DEFAULT_PORT) for one in asked.listen] or [
        ListenAddress("127.0.0.1", DEFAULT_PORT)
    ]
    made = [
        ListenAddress(one.host, one.port, one.loopback and not asked.read_token) for one in listen
    ]
    for text in asked.open:
        one = parse_address(text, DEFAULT_PORT)
        made = [other for other in made if (other.host, other.port) != (one.host, one.port)]
        made.append(ListenAddress(one.host, one.port, not asked.read_token))
    return tuple(made)


def _health_address(text: str) -> ListenAddress:
    return (
        parse_address(text, DEFAULT_HEALTH_PORT)
        if text
        else ListenAddress("127.0.0.1", DEFAULT_HEALTH_PORT)
    )


def parse_address(text: str, default_port: int) -> ListenAddress:
    """`HOST:PORT`, `HOST`, `[HOST]:PORT`, or `:PORT` for every address of the machine."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    # A host that is a number would be one of 0.0.0.0/8.
    valid = port.isascii() and port.isdecimal() and int(port) < 65536
    if host.isdecimal() or (port and not valid):
        raise UsageError(
            f'"{text}" is no address to listen on', hint="HOST:PORT, as in 127.0.0.1:8070"
        )
    return ListenAddress(host or "0.0.0.0", int(port) if port else default_port)  # noqa: S104  as asked
