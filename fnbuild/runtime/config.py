"""The processor's configuration file, read and checked.

    {"function": {"name", "namespace", "project", "description", "version", "revision": int},
     "handler": "main:handler",
     "code": "/folder",                  mounted for the handler at `mount`
     "mount": "/opt/nuclio" | null,      null: the code is used in place
     "immutable": false,                 true: writes of the handler do not reach `code`
     "interpreter": "/usr/bin/python3",  of the workers
     "env": {"KEY": "value"},            for the workers, in addition to the processor's
     "sdk_path": "/folder" | null,       contains nuclio_sdk, or a folder for each release of it;
                                         last on the workers' sys.path
     "triggers": {"NAME": {"kind": "http",   see `triggers.kinds`
                           "num_workers": 1,
                           "availability_timeout_ms": 10000, "termination_timeout": 10.0,
                           "allocator": "",   triggers with the same name share their workers
                           "batch": {"size": 10, "timeout": 1.0} | null,   of kind http
                           "attributes": {}}},
     "event_timeout": 30.0 | null,       seconds
     "readiness_timeout": 120.0,         seconds that init_context may take
     "accept": "immediately" | "when-ready" | "when-settled" | "ready-or-end",
                                         settled: ready or failed; `ready-or-end` ends if failed
     "restart": "always" | "no",         of workers that die
     "neighbours": "/folder" | null,     configurations of this machine's processors; see
                                         `worker.connection_provider`
     "drain_timeout": 60.0,              seconds to wait for open connections
     "linger": 0,                        seconds after SIGTERM in which requests are still served
     "listeners": {"http": {"fd": 3} | {"host": "127.0.0.1", "port": 8080}
                           | a list of these, one for each address,
                   "admin": the same | null, "control": "/path.sock" | {"fd": 5} | null},
     "log": {"level": "debug", "format": "auto" | "human" | "json"}}

All but `handler`, `code` and `listeners.http` have defaults.
"""

import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import logs

Values = Dict[str, Any]

_ACCEPT = ("immediately", "when-ready", "when-settled", "ready-or-end")


class ConfigFileError(Exception):
    """The file is invalid; the message names the key and the value."""


class ListenerConfig:
    """A listener: an inherited descriptor or an address."""

    def __init__(self, fd: Optional[int], host: str, port: int) -> None:
        self.fd = fd
        self.host = host
        self.port = port


class BatchConfig(NamedTuple):
    """Batching of events: the largest batch, and the seconds after which one is dispatched."""

    size: int
    timeout: float


class TriggerConfig:
    """A trigger. `availability_timeout` is in seconds here.

    `max_reply` is the largest reply in bytes; 0 means no limit.
    """

    def __init__(self, name: str, values: Values) -> None:
        location = "triggers.%s" % name
        self.name = name
        self.kind = _get(values, location, "kind", str, "http")
        self.num_workers = _get(values, location, "num_workers", int, 1)
        self.availability_timeout = (
            _get(values, location, "availability_timeout_ms", float, 10000.0) / 1000.0
        )
        self.termination_timeout = _get(values, location, "termination_timeout", float, 10.0)
        self.batch = _batch(values, location)
        self.allocator = _get(values, location, "allocator", str, "")
        self.attributes = _get(values, location, "attributes", dict, {})
        self.max_reply = 0
        if self.kind == "http":
            self.max_reply = attribute_number(self.attributes, "maxReplyBodySize", 0)
        if not 1 <= self.num_workers <= 10000:
            raise ConfigFileError(
                "%s.num_workers: %d is not between 1 and 10000" % (location, self.num_workers)
            )


class ProcessorConfig:
    """The whole file; attributes have the names of its keys. `defaults` are for missing keys."""

    def __init__(self, values: Values, defaults: Optional[Values] = None) -> None:
        if not isinstance(values, dict):
            raise ConfigFileError("the configuration must be a JSON object")
        values = dict(defaults or {}, **values)
        self.function = _get(values, "", "function", dict, {})
        self.handler = _get(values, "", "handler", str)
        self.code = _get(values, "", "code", str)
        self.mount = _get(values, "", "mount", str, None)
        self.immutable = _get(values, "", "immutable", bool, False)
        self.interpreter = _get(values, "", "interpreter", str, sys.executable)
        self.env = {str(k): str(v) for k, v in _get(values, "", "env", dict, {}).items()}
        self.neighbours = _get(values, "", "neighbours", str, None)
        self.sdk_path = _get(values, "", "sdk_path", str, None)
        self.triggers = {
            name: TriggerConfig(name, trigger)
            for name, trigger in _get(values, "", "triggers", dict, {}).items()
        }
        self.event_timeout = _get(values, "", "event_timeout", float, None)
        self.readiness_timeout = _get(values, "", "readiness_timeout", float, 120.0)
        self.accept = _choice(values, "accept", _ACCEPT)
        self.restart = _choice(values, "restart", ["always", "no"])
        self.drain_timeout = _get(values, "", "drain_timeout", float, 60.0)
        self.linger = _get(values, "", "linger", float, 0.0)
        self._read_listeners(_get(values, "", "listeners", dict))
        self._read_log(_get(values, "", "log", dict, {}))

    def _read_listeners(self, values: Values) -> None:
        value = values.get("http")
        items = value if isinstance(value, list) else [value]
        listeners = [_listener({"http": item}, "http") for item in items]
        http = [listener for listener in listeners if listener is not None]
        if not http or len(http) < len(listeners):
            raise ConfigFileError("listeners.http is missing")
        self.http: List[ListenerConfig] = http
        self.admin = _listener(values, "admin")
        # A path, or a socket that is listening already.
        self.control: Optional[str] = None
        self.control_socket: Optional[ListenerConfig] = None
        if isinstance(values.get("control"), dict):
            self.control_socket = _listener(values, "control")
        else:
            self.control = _get(values, "listeners", "control", str, None)

    def _read_log(self, values: Values) -> None:
        self.log_level = _get(values, "log", "level", str, "debug")
        if self.log_level not in logs.LEVELS:
            raise ConfigFileError(
                'log.level: "%s" is not one of %s' % (self.log_level, ", ".join(logs.LEVELS))
            )
        self.log_format = _choice(values, "format", ["auto", "human", "json"], "log.")

    @classmethod
    def from_file(cls, path: str, defaults: Optional[Values] = None) -> "ProcessorConfig":
        """Read and check the file at `path`; raise ConfigFileError if it is missing or invalid."""
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as problem:
            raise ConfigFileError("%s cannot be read: %s" % (path, problem.strerror)) from None
        return cls.from_json(data, path, defaults)

    @classmethod
    def from_json(
        cls, data: bytes, origin: str, defaults: Optional[Values] = None
    ) -> "ProcessorConfig":
        """Read and check JSON; `origin` names its place in errors."""
        try:
            values = json.loads(data.decode("utf-8"))
        except ValueError as problem:
            raise ConfigFileError("%s is not JSON: %s" % (origin, problem)) from None
        try:
            return cls(values, defaults)
        except ConfigFileError as problem:
            raise ConfigFileError("%s: %s" % (origin, problem)) from None


def attribute_number(attributes: Values, key: str, default: int, unit: str = "bytes") -> int:
    """Return a positive number from a trigger's attributes; raise ConfigFileError otherwise."""
    # In Nuclio the names of attributes are case-insensitive.
    values = {name.lower(): value for name, value in attributes.items()}
    value = values.get(key.lower())
    if not value:
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ConfigFileError("attributes.%s: %r is not a number of %s" % (key, value, unit))
    return number


_REQUIRED = object()


def _get(values: Values, location: str, key: str, kind: type, default: Any = _REQUIRED) -> Any:
    name = "%s.%s" % (location, key) if location else key
    if not isinstance(values, dict):
        raise ConfigFileError("%s must be a JSON object" % location)
    value = values.get(key)
    if value is None:
        if default is _REQUIRED:
            raise ConfigFileError("%s is missing" % name)
        return default
    kinds: Tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise ConfigFileError("%s: %r is not a %s" % (name, value, kind.__name__))
    return float(value) if isinstance(value, int) and kind is float else value


def _batch(values: Values, location: str) -> Optional[BatchConfig]:
    section = _get(values, location, "batch", dict, None)
    if section is None:
        return None
    location += ".batch"
    batch = BatchConfig(
        _get(section, location, "size", int, 10), _get(section, location, "timeout", float, 1.0)
    )
    if batch.size < 1 or batch.timeout < 0:
        raise ConfigFileError("%s: %d events within %g s is not a valid batch" % (location, *batch))
    return batch


def _choice(values: Values, key: str, choices: Sequence[str], location: str = "") -> str:
    value = values.get(key, choices[0])
    if value not in choices:
        raise ConfigFileError(
            "%s%s: %r is not one of %s" % (location, key, value, ", ".join(choices))
        )
    return str(value)


def _listener(values: Values, key: str) -> Optional[ListenerConfig]:
    section = _get(values, "listeners", key, dict, None)
    if section is None:
        return None
    location = "listeners.%s" % key
    if section.get("fd") is not None:
        return ListenerConfig(_get(section, location, "fd", int), "", 0)
    host = _get(section, location, "host", str, "127.0.0.1")
    port = _get(section, location, "port", int)
    if not 0 <= port <= 65535:
        raise ConfigFileError("%s.port: %d is not between 0 and 65535" % (location, port))
    return ListenerConfig(None, host, port)
