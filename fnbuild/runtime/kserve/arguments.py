"""The arguments with which KServe starts a container, applied to the processor's configuration.

KServe starts the container of a predictor or a transformer with arguments such as

    --model_name mobilenet --http_port 8080 --predictor_host mobilenet-predictor.default

which are also the arguments of a model's own script. Its default probe only connects to the port,
so the processor listens there once the model is loaded, and ends if that fails.
"""

import argparse
import os
from typing import Callable, List

from ..config import ConfigFileError, ListenerConfig, ProcessorConfig, TriggerConfig
from ..storage.uris import URI_VARIABLE

_PROTOCOLS = ["v1", "v2"]
# Some of them start any container of KServe.
_OPTIONS = (
    "--model_name", "--model_dir", "--http_port", "--grpc_port", "--workers", "--predictor_host",
    "--protocol", "--predictor_protocol", "--predictor_use_ssl", "--explainer_host",
    "--predictor_request_timeout_seconds",
)  # fmt: skip


def is_server_start(arguments: List[str]) -> bool:
    """Return True if these are arguments of KServe."""
    return any(argument.partition("=")[0] in _OPTIONS for argument in arguments)


def apply_arguments(config: ProcessorConfig, arguments: List[str]) -> None:
    """Change the configuration as the arguments say; raise ConfigFileError for an invalid one."""
    options = _parse(arguments)
    config.arguments += arguments
    triggers = [trigger for trigger in config.triggers.values() if trigger.kind == "http"]
    if not triggers:
        triggers = [TriggerConfig("default-http", {})]
        config.triggers["default-http"] = triggers[0]
    for trigger in triggers:
        trigger.attributes.setdefault("protocols", _PROTOCOLS)
        if options.model_name:
            trigger.attributes["model"] = options.model_name
        if options.workers:
            trigger.num_workers = options.workers
    if options.http_port is not None:
        config.http = [_with_port(listener, options.http_port) for listener in config.http]
    if options.grpc_port is not None:
        config.grpc = [_with_port(listener, options.grpc_port) for listener in config.grpc]
    if options.model_dir and not os.environ.get(URI_VARIABLE):
        # Handlers find the folder of their model there.
        config.env.setdefault(URI_VARIABLE, options.model_dir)
    config.accept = "ready-or-end"
    config.listen_when_accepting = True


def _parse(arguments: List[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for option in ("--model_name", "--model_dir"):
        parser.add_argument(option)
    for option in ("--http_port", "--grpc_port"):
        parser.add_argument(option, type=_number_up_to(65535))
    parser.add_argument("--workers", type=_number_up_to(10000))
    return parser.parse_known_args(arguments)[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigFileError("the arguments of the container: %s" % message)


def _number_up_to(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 0 on."""

    def parse(text: str) -> int:
        # More digits than Python converts.
        if not text.isdecimal() or len(text) > 10 or int(text) > most:
            raise argparse.ArgumentTypeError("%r is not a number from 0 to %d" % (text, most))
        return int(text)

    return parse


def _with_port(listener: ListenerConfig, port: int) -> ListenerConfig:
    return listener if listener.fd is not None else ListenerConfig(None, listener.host, port)
