"""Settings of a dashboard: addresses, platforms, and defaults of every deploy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

import fnbuild
from fnbuild.errors import InputError, Report, UsageError
from fnbuild.function.decoder import Decoder
from fnbuild.function.reader import config_error
from fnbuild.function.source_text import read_source
from fnbuild.function.types import Function, Raw, Struct, to_dict
from fnbuild.function.yaml_parser import parse_yaml
from fnbuild.hosts import bracketed, is_loopback
from fnbuild.names import DEFAULT_NAMESPACE, DEFAULT_PLATFORM
from fnbuild.platforms import NO_CONNECT_OPTIONS, ConnectOptions

DEFAULT_PORT = 8070
DEFAULT_HEALTH_PORT = 8082
NO_ADDRESS = "none"

# A link to functions/ at the top; in an installed fnbuild, its files.
_BUNDLED_LIBRARY = Path(fnbuild.__file__).with_name("library")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on. If it is `open`, reading and invoking need no token."""

    host: str
    port: int
    open: bool = False

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in effect.

    `platform` is the default one, for new functions. `platforms` are those to show, all that are
    available if it is empty. `defaults` is a function that is merged below each deployed one. With
    `read_token` no address is open, and a token for reading is created.
    """

    listen: tuple[ListenAddress, ...] = (ListenAddress("127.0.0.1", DEFAULT_PORT, open=True),)
    health: ListenAddress | None = ListenAddress("127.0.0.1", DEFAULT_HEALTH_PORT)
    namespace: str = DEFAULT_NAMESPACE
    platform: str = DEFAULT_PLATFORM
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
    connect: ConnectOptions = NO_CONNECT_OPTIONS


class DashboardOptions(Struct, frozen=True):
    """The options of a configuration file. Flags have the same names with dashes."""

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
    """Read the configuration file at `path`: YAML with the options in camel case.

    Raises `ConfigError` with all its errors at their places.
    """
    report = Report()
    source = read_source(path, str(path), report)
    tree = parse_yaml(source) if source is not None else None
    options = DashboardOptions()
    if tree is not None:
        root, source = tree
        decoded = Decoder(source, strict=True).read(DashboardOptions, root)
        options = options if report.errors else decoded
    if any(error.rule != "empty" for error in report.errors):
        report.sort()
        raise config_error(report, str(path))
    return options


def make_settings(
    flags: DashboardOptions,
    file: DashboardOptions,
    connect: ConnectOptions = NO_CONNECT_OPTIONS,
) -> Settings:
    """Return the settings of the flags and, where these are empty, of the configuration file.

    Raises `UsageError` and `InputError`.
    """
    values = msgspec.structs.asdict(file) | {
        name: value for name, value in msgspec.structs.asdict(flags).items() if value
    }
    options = DashboardOptions(**values)
    library = Path(options.library).expanduser().absolute() if options.library else _BUNDLED_LIBRARY
    if options.library and not library.is_dir():
        raise InputError(
            f"there is no folder {library}", hint="`--library` takes a folder of function folders"
        )
    return Settings(
        listen=_listen_addresses(options),
        health=None if options.health == NO_ADDRESS else _health_address(options.health),
        namespace=options.namespace or DEFAULT_NAMESPACE,
        platform=options.platform or DEFAULT_PLATFORM,
        platforms=tuple(options.platforms),
        registry=options.registry,
        run_registry=options.run_registry,
        no_pull=options.no_pull,
        offline=options.offline,
        external_ips=tuple(options.external_ip_addresses),
        allowed_hosts=frozenset(options.allowed_hosts),
        library=library,
        defaults=to_dict(options.defaults) if options.defaults else {},
        read_token=options.read_token,
        connect=connect,
    )


def _listen_addresses(options: DashboardOptions) -> tuple[ListenAddress, ...]:
    listen = [parse_address(text, DEFAULT_PORT) for text in options.listen]
    listen = listen or [ListenAddress("127.0.0.1", DEFAULT_PORT)]
    addresses = [
        replace(address, open=address.loopback and not options.read_token) for address in listen
    ]
    for text in options.open:
        address = replace(parse_address(text, DEFAULT_PORT), open=not options.read_token)
        place = (address.host, address.port)
        addresses = [other for other in addresses if (other.host, other.port) != place]
        addresses.append(address)
    return tuple(addresses)


def _health_address(text: str) -> ListenAddress:
    return (
        parse_address(text, DEFAULT_HEALTH_PORT)
        if text
        else ListenAddress("127.0.0.1", DEFAULT_HEALTH_PORT)
    )


def parse_address(text: str, default_port: int) -> ListenAddress:
    """Parse `HOST:PORT`, `HOST`, `[HOST]:PORT`, or `:PORT` for every address of the machine."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    # A number as host would be an address of 0.0.0.0/8.
    valid = port.isascii() and port.isdecimal() and int(port) < 65536
    if host.isdecimal() or (port and not valid):
        raise UsageError(
            f'"{text}" is not an address to listen on', hint="HOST:PORT, as in 127.0.0.1:8070"
        )
    return ListenAddress(host or "0.0.0.0", int(port) if port else default_port)  # noqa: S104  as asked
