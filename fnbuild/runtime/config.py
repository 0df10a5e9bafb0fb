"""The processor's configuration file, read and checked.

    {"function": {"name", "namespace", "project", "description", "version", "revision": int},
     "handler": "main:handler",
     "arguments": ["--model_dir", "/m"], of the script of a model; see `runtime.kserve`
     "code": "/folder",                  mounted for the handler at `mount`
     "mount": "/opt/nuclio" | null,      null: the code is used in place
     "immutable": false,                 true: writes of the handler do not reach `code`
     "interpreter": "/usr/bin/python3",  of the workers
     "env": {"KEY": "value"},            for the workers, in addition to the processor's
     "models": "/folder" | null,         for the model that STORAGE_URI in `env` names; null: none
     "sdk_path": "/folder" | null,       contains nuclio_sdk, or a folder for each release of it;
                                         last on the workers' sys.path
     "triggers": {"NAME": {"kind": "http",   see `triggers.kinds`
                           "num_workers": 1,
                           "availability_timeout_ms": 10000, "termination_timeout": 10.0,
                           "allocator": "",   triggers with the same name share their workers
                           "batch": {"size": 10, "timeout": 1.0, "adaptive": false} | null,
                                               of kind http
                           "attributes": {}}},
     "event_timeout": 30.0 | null,       seconds
     "readiness_timeout": 120.0,         seconds that init_context may take
     "accept": "immediately" | "when-ready" | "when-settled" | "ready-or-end",
                                         settled: ready or failed; `ready-or-end` ends if failed
     "restart": "always" | "no",         of workers that die
     "sleep": {"idle_timeout": 600.0 | null,   seconds without a request; null: only on request
               "level": "exit" | "offload",   see `processor.sleep`
               "group": {"name": "g", "folder": "/folder", of the GPU group; see `groups.group`
                         "awake": 1 | null,     members that may be awake
                         "memory": 1000 | null, bytes that the awake ones may use
                         "need": 500 | null,    bytes that this function uses; null: measured
                         "permanent": false,    true: it never sleeps
                         "instance": "3-17"     identifies the revision; see `GroupConfig`
                         } | null} | null,
     "record": {"size": 100000000, "age": 86400.0,   bytes and seconds of requests that are kept
                "folder": "/folder"} | null,   see `recording.files`; null: none are recorded
     "workers_per_device": 2 | null,     workers that get the same GPU; see `processor.devices`
     "allowed_hosts": ["host"] | null,   names in Host besides this machine's; null: neither Host
                                         nor Origin is checked; see `access.gate`
     "neighbours": "/folder" | null,     configurations of this machine's processors; see
                                         `worker.connection_provider`
     "grpc_packages": "/folder" | null,  contains grpcio and protobuf for the processor's Python
     "drain_timeout": 60.0,              seconds to wait for open connections
     "linger": 0,                        seconds after SIGTERM in which requests are still served
     "listeners": {"http": {"fd": 3} | {"host": "127.0.0.1", "port": 8080}
                           | a list of these, one for each address,
                   "grpc": the same | null, used if the http trigger's protocols have grpc,
                   "admin": the same | null, "control": "/path.sock" | {"fd": 5} | null},
     "log": {"level": "debug", "format": "auto" | "human" | "json"}}

All but `handler`, `code` and `listeners.http` have defaults.
"""

import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import logs
from .access.credentials import Credentials, take_credentials
from .recording.files import RECORDING_PATH, RecordConfig

Values = Dict[str, Any]

# A longer backlog than a function can handle within the default availability timeout of ten seconds
# is of little use, and its bodies cost memory.
DEFAULT_BACKLOG = 1024

_ACCEPT = ("immediately", "when-ready", "when-settled", "ready-or-end")


class ConfigFileError(Exception):
    """The file is invalid; the message names the key and the value."""


_REQUIRED = object()


class _Section:
    """An object of the file; `location` is its place there, empty for the whole."""

    def __init__(self, values: Any, location: str = "") -> None:
        if not isinstance(values, dict):
            raise ConfigFileError("%s must be a JSON object" % (location or "the configuration"))
        self.values = values
        self._location = location

    def path(self, key: str) -> str:
        """Return the place of a key."""
        return "%s.%s" % (self._location, key) if self._location else key

    def get(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """Return the checked value of a key; without a default it is required."""
        value = self.values.get(key)
        if value is None:
            if default is _REQUIRED:
                raise ConfigFileError("%s is missing" % self.path(key))
            return default
        kinds: Tuple[type, ...] = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise ConfigFileError("%s: %r is not a %s" % (self.path(key), value, kind.__name__))
        return float(value) if isinstance(value, int) and kind is float else value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return the value of a key, by default the first choice."""
        value = self.values.get(key, choices[0])
        if value not in choices:
            raise ConfigFileError(
                "%s: %r is not one of %s" % (self.path(key), value, ", ".join(choices))
            )
        return str(value)

    def section(self, key: str) -> "Optional[_Section]":
        """Return the object of a key, if there is one."""
        values = self.get(key, dict, None)
        return None if values is None else _Section(values, self.path(key))


class ListenerConfig:
    """A listener: an inherited descriptor or an address."""

    def __init__(self, fd: Optional[int], host: str, port: int) -> None:
        self.fd = fd
        self.host = host
        self.port = port


class GroupConfig(NamedTuple):
    """The GPU group of the function, with the limits that it declares; memory is in bytes.

    A processor that starts again with the same `instance` begins asleep; "" is none.
    """

    name: str
    folder: str
    awake: Optional[int]
    memory: Optional[int]
    need: Optional[int]
    permanent: bool
    instance: str = ""


class SleepConfig(NamedTuple):
    """The idle timeout in seconds, if there is one, and what falling asleep means for a worker.

    `offload` is True if the handler releases its own memory; otherwise processes end.
    """

    idle_timeout: Optional[float] = None
    offload: bool = False
    group: Optional[GroupConfig] = None

    @property
    def level(self) -> str:
        """The name of the level."""
        return "offload" if self.offload else "exit"


class BatchConfig(NamedTuple):
    """Batching of events: the largest batch, and the longest time in seconds that one waits.

    An `adaptive` batch waits only as long as that pays.
    """

    size: int
    timeout: float
    adaptive: bool


class TriggerConfig:
    """A trigger. `availability_timeout` is in seconds here.

    The names of `attributes` are in lower case, since in Nuclio they are case-insensitive.
    `max_reply` is the largest reply in bytes; 0 means no limit.
    """

    def __init__(self, name: str, values: Values) -> None:
        section = _Section(values, "triggers.%s" % name)
        self.name = name
        self.kind = section.get("kind", str, "http")
        self.num_workers = section.get("num_workers", int, 1)
        self.availability_timeout = section.get("availability_timeout_ms", float, 10000.0) / 1000.0
        self.termination_timeout = section.get("termination_timeout", float, 10.0)
        self.batch = _batch(section)
        self.allocator = section.get("allocator", str, "")
        attributes = section.get("attributes", dict, {})
        self.attributes = {key.lower(): value for key, value in attributes.items()}
        self.max_reply = 0
        if self.kind == "http":
            self.max_reply = attribute_number(self.attributes, "maxReplyBodySize", 0)
        if not 1 <= self.num_workers <= 10000:
            raise ConfigFileError(
                "%s: %d is not between 1 and 10000"
                % (section.path("num_workers"), self.num_workers)
            )


class ProcessorConfig:
    """The whole file; attributes have the names of its keys. `defaults` are for missing keys."""

    def __init__(self, values: Values, defaults: Optional[Values] = None) -> None:
        if isinstance(values, dict):
            values = dict(defaults or {}, **values)
        section = _Section(values)
        get = section.get
        self.function = get("function", dict, {})
        self.handler = get("handler", str)
        self.arguments = [str(argument) for argument in get("arguments", list, [])]
        self.code = get("code", str)
        self.mount = get("mount", str, None)
        self.immutable = get("immutable", bool, False)
        self.interpreter = get("interpreter", str, sys.executable)
        self.env = {str(k): str(v) for k, v in get("env", dict, {}).items()}
        self.credentials = _credentials(self.env)
        hosts = get("allowed_hosts", list, None)
        self.allowed_hosts = None if hosts is None else [str(host) for host in hosts]
        self.neighbours = get("neighbours", str, None)
        self.models = get("models", str, None)
        self.grpc_packages = get("grpc_packages", str, None)
        self.sdk_path = get("sdk_path", str, None)
        self.triggers = {
            name: TriggerConfig(name, trigger)
            for name, trigger in get("triggers", dict, {}).items()
        }
        self.event_timeout = get("event_timeout", float, None)
        self.readiness_timeout = get("readiness_timeout", float, 120.0)
        self.accept = section.choice("accept", _ACCEPT)
        # Connections are refused until then, as KServe's probes of the port expect.
        self.listen_when_accepting = False
        self.restart = section.choice("restart", ["always", "no"])
        self.sleep = _sleep(section)
        self.record = _record(section)
        self.workers_per_device: Optional[int] = get("workers_per_device", int, None)
        if self.workers_per_device is not None and self.workers_per_device < 1:
            raise ConfigFileError(
                "workers_per_device: %d is not positive" % self.workers_per_device
            )
        # A descriptor that workers inherit: as long as it is open, their memory counts as used.
        self.group_lock: Optional[int] = None
        self.drain_timeout = get("drain_timeout", float, 60.0)
        self.linger = get("linger", float, 0.0)
        self._read_listeners(_Section(get("listeners", dict), "listeners"))
        self._read_log(_Section(get("log", dict, {}), "log"))

    @property
    def model_name(self) -> str:
        """The name of the function's model in the URLs of the inference protocols."""
        names = [trigger.attributes.get("model") for trigger in self.triggers.values()]
        return str(next(filter(None, names), self.function.get("name", "")))

    def _read_listeners(self, section: _Section) -> None:
        self.http = _listeners(section, "http")
        if not self.http:
            raise ConfigFileError("listeners.http is missing")
        self.grpc = _listeners(section, "grpc") if self._serves_grpc() else []
        self.admin = _listener(section, "admin")
        # A path, or a socket that is listening already.
        self.control: Optional[str] = None
        self.control_socket: Optional[ListenerConfig] = None
        if isinstance(section.values.get("control"), dict):
            self.control_socket = _listener(section, "control")
        else:
            self.control = section.get("control", str, None)

    def _serves_grpc(self) -> bool:
        attributes = [trigger.attributes for trigger in self.triggers.values()]
        return any("grpc" in (values.get("protocols") or ()) for values in attributes)

    def _read_log(self, section: _Section) -> None:
        self.log_level = section.get("level", str, "debug")
        if self.log_level not in logs.LEVELS:
            raise ConfigFileError(
                'log.level: "%s" is not one of %s' % (self.log_level, ", ".join(logs.LEVELS))
            )
        self.log_format = section.choice("format", ["auto", "human", "json"])

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
    value = attributes.get(key.lower())
    if not value:
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ConfigFileError("attributes.%s: %r is not a number of %s" % (key, value, unit))
    return number


def _credentials(env: Dict[str, str]) -> Credentials:
    try:
        return take_credentials(env)
    except ValueError as problem:
        raise ConfigFileError("env: %s" % problem) from None


def _batch(trigger: _Section) -> Optional[BatchConfig]:
    section = trigger.section("batch")
    if section is None:
        return None
    batch = BatchConfig(
        section.get("size", int, 10),
        section.get("timeout", float, 1.0),
        section.get("adaptive", bool, False),
    )
    if batch.size < 1 or batch.timeout < 0:
        raise ConfigFileError(
            "%s: %d events within %g s is not a valid batch"
            % (trigger.path("batch"), batch.size, batch.timeout)
        )
    return batch


def _sleep(config: _Section) -> SleepConfig:
    section = config.section("sleep")
    if section is None:
        return SleepConfig()
    timeout = section.get("idle_timeout", float, None)
    if timeout is not None and timeout <= 0:
        raise ConfigFileError(
            "%s: %g is not a number of seconds" % (section.path("idle_timeout"), timeout)
        )
    offload = section.choice("level", ["exit", "offload"]) == "offload"
    return SleepConfig(timeout, offload, _group(section))


def _record(config: _Section) -> Optional[RecordConfig]:
    section = config.section("record")
    if section is None:
        return None
    folder = section.get("folder", str, RECORDING_PATH)
    return RecordConfig(section.get("size", int), section.get("age", float), folder)


def _group(sleep: _Section) -> Optional[GroupConfig]:
    section = sleep.section("group")
    if section is None:
        return None
    return GroupConfig(
        section.get("name", str),
        section.get("folder", str),
        section.get("awake", int, None),
        section.get("memory", int, None),
        section.get("need", int, None),
        section.get("permanent", bool, False),
        section.get("instance", str, ""),
    )


def _listeners(section: _Section, key: str) -> List[ListenerConfig]:
    """Return the listeners of a key, which has one, a list of them, or none."""
    value = section.values.get(key)
    items = value if isinstance(value, list) else [value] if value is not None else []
    listeners = [_listener(_Section({key: item}, "listeners"), key) for item in items]
    if None in listeners:
        raise ConfigFileError("listeners.%s is missing" % key)
    return [listener for listener in listeners if listener is not None]


def _listener(listeners: _Section, key: str) -> Optional[ListenerConfig]:
    section = listeners.section(key)
    if section is None:
        return None
    if section.values.get("fd") is not None:
        return ListenerConfig(section.get("fd", int), "", 0)
    host = section.get("host", str, "127.0.0.1")
    port = section.get("port", int)
    if not 0 <= port <= 65535:
        raise ConfigFileError("%s: %d is not between 0 and 65535" % (section.path("port"), port))
    return ListenerConfig(None, host, port)
