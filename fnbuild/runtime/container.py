"""The program `processor` in an image.

    processor [--config FILE]      serve until a signal
    processor --health             exit with status 0 if every worker is ready
    processor --status             print the status as JSON
    processor --sleep | --wake     put the workers to sleep, or wake them; print the answer
    processor --recording ACTION   list or export the recorded requests, or clear them
    processor --wait SECONDS       wait until the function is ready or has failed, then do the same
    processor --check-import       import the handler without a GPU; see `importcheck`
    processor --invoke URL         call another function once; exit with status 0 for a 2xx reply
    processor --version
    processor --model_name NAME …  serve as a container of KServe; see `kserve.arguments`

The configuration is that of `fnbuild.builder.processor_settings`. This module adds the paths and
ports of an image; keys in the file take precedence over them.
"""

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from fnbuild import __version__

from . import health
from .access.credentials import TOKEN_HEADER, VARIABLE, read_values
from .config import ConfigFileError, ProcessorConfig
from .logs import Log

if TYPE_CHECKING:
    import argparse

# Characters of an error that are printed.
_MAX_ERROR_LENGTH = 300

# The layout of Nuclio's images; the file is the equivalent of its processor.yaml.
CONFIG_PATH = "/etc/nuclio/config/processor/processor.json"
# The same as `fnbuild.names.CODE_FOLDER`, which is not in images.
CODE_PATH = "/opt/nuclio"
# The folder of models in KServe.
MODELS_PATH = "/mnt/models"
HTTP_PORT = 8080
# As in KServe's servers.
GRPC_PORT = 8081

_INTERPRETER_VARIABLE = "NUCLIO_PYTHON_EXE_PATH"
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# A copy of the file: Nuclio's controller mounts a folder with its processor.yaml over the folder of
# the first (pkg/platform/kube/functionres/lazy.go).
FALLBACK_CONFIG_PATH = os.path.join(_HOME, "processor.json")

# Takes precedence over the copy, and under KServe over the file: the same JSON, set by a deploy.
CONFIG_VARIABLE = "FNBUILD_PROCESSOR"

# Seconds between polls: the first ones short, since most functions are ready soon.
_FIRST_INTERVAL = 0.02
# Seconds that a wake may take here; the readiness timeout ends it earlier.
_POST_TIMEOUT = 3600.0
_MAX_INTERVAL = 0.2


def invoke(url: str, method: str, headers: Dict[str, str], body: str, timeout: float) -> int:
    """Call a URL; return 0 for a 2xx reply, otherwise print the reason and return 1.

    The default `method` is POST with a body and GET without, as for curl. `timeout` is in seconds,
    for each operation.
    """
    # Late, since no other command needs these.
    from urllib.parse import urlsplit, urlunsplit

    from .http import client

    parts = urlsplit(url)
    origin = "%s://%s" % parts[:2]
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    data = body.encode("utf-8", "surrogateescape") or None
    method = method or ("POST" if body else "GET")
    try:
        response = client.request(method, origin, path, data, headers, timeout)
    except (OSError, ValueError) as problem:
        failure = str(problem) or type(problem).__name__
    else:
        if 200 <= response.status < 300:
            return 0
        text = response.body.decode("utf-8", "replace")
        failure = "status %d: %s" % (response.status, text)
    sys.stderr.write("%s: %s\n" % (url, " ".join(failure.split())[:_MAX_ERROR_LENGTH]))
    return 1


def main() -> int:
    """Run one of the commands above; return 1 if it failed, 2 for usage and configuration."""
    try:
        return _run()
    except ConfigFileError as problem:
        Log().error(str(problem))
        return 2


def _run() -> int:
    if not sys.argv[1:] or _is_started_by_kserve(sys.argv[1:]):
        return _serve(CONFIG_PATH, sys.argv[1:])
    arguments = _parse_arguments()
    if arguments.health:
        return health.main()
    if arguments.status or arguments.sleep or arguments.wake:
        action = "/sleep" if arguments.sleep else "/wake"
        return _print_status() if arguments.status else _post(action)
    if arguments.recording is not None or arguments.wait is not None:
        wait = arguments.wait
        return _recording(arguments.recording) if wait is None else _wait(wait)
    if arguments.invoke is not None:
        headers = dict(arguments.header, **_own_token())
        return invoke(
            arguments.invoke, arguments.method, headers, arguments.body, arguments.timeout
        )
    return (_check_import if arguments.check_import else _serve)(arguments.config)


def _own_token() -> Dict[str, str]:
    """Return the header with the token of a function that asks for credentials, if it is known."""
    token = read_values(os.environ.get(VARIABLE, "")).get("token")
    return {TOKEN_HEADER: token} if token else {}


def _is_started_by_kserve(arguments: List[str]) -> bool:
    # Late, since this import takes a tenth of the start-up time of an image.
    from .kserve.arguments import is_server_start

    return is_server_start(arguments)


def _parse_arguments() -> "argparse.Namespace":
    # Late, since this import takes a tenth of the start-up time of an image.
    import argparse

    parser = argparse.ArgumentParser(prog="processor", description="Serve the function.")
    python = "%s %d.%d.%d" % (sys.implementation.name, *sys.version_info[:3])
    about = "processor of fnbuild %s (%s)" % (__version__, python)
    parser.add_argument(
        "--config", metavar="FILE", default=CONFIG_PATH, help="default: %(default)s"
    )
    parser.add_argument("--version", action="version", version=about)
    command = parser.add_mutually_exclusive_group()
    command.add_argument(
        "--health", action="store_true", help="check whether every worker is ready"
    )
    command.add_argument("--status", action="store_true", help="print the status as JSON")
    command.add_argument("--sleep", action="store_true", help="put the workers to sleep")
    command.add_argument("--wake", action="store_true", help="wake the workers")
    command.add_argument("--recording", choices=["list", "export", "clear"], help="of requests")
    command.add_argument("--wait", metavar="SECONDS", type=float, help="wait until ready or failed")
    command.add_argument("--check-import", action="store_true", help="import the handler, then end")
    command.add_argument("--invoke", metavar="URL", help="call another function once")
    options = parser.add_argument_group("of --invoke")
    options.add_argument("--method", default="", help="default: POST with a body, else GET")
    options.add_argument("--header", metavar="K=V", type=_parse_header, action="append", default=[])
    options.add_argument("--body", metavar="TEXT", default="")
    options.add_argument("--timeout", metavar="SECONDS", type=float, default=600.0)
    return parser.parse_args()


def _parse_header(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(text)
    return name, value


def _serve(path: str, arguments: Sequence[str] = ()) -> int:
    # This Python runs without site-packages, which belong to the handler; spans need them.
    if any(name.startswith("OTEL_") for name in os.environ):
        import site

        site.main()
    config, origin = _read_config(path, under_kserve=bool(arguments))
    if origin != path:
        reason = "is replaced" if os.path.exists(path) else "does not exist"
        text = "%s %s: the configuration is read from %s" % (path, reason, origin)
        Log(config.log_level, config.log_format).info(text)
    if arguments:
        from .kserve.arguments import apply_arguments

        apply_arguments(config, list(arguments))
    from .processor.processor import serve

    return serve(config)


def _check_import(path: str) -> int:
    from . import importcheck

    config, _origin = _read_config(path, under_kserve=False)
    return importcheck.report(importcheck.check(config))


def _read_config(path: str, under_kserve: bool) -> Tuple[ProcessorConfig, str]:
    """Return the configuration and its origin."""
    data = os.environ.get(CONFIG_VARIABLE, "").encode("utf-8")
    # Under KServe, nothing is mounted over the file of the image, which has no later changes.
    is_replaced = bool(data) and under_kserve
    if path != CONFIG_PATH or (os.path.exists(path) and not is_replaced):
        return ProcessorConfig.from_file(path, _image_defaults()), path
    if data:
        return ProcessorConfig.from_json(data, CONFIG_VARIABLE, _image_defaults()), CONFIG_VARIABLE
    fallback = FALLBACK_CONFIG_PATH if os.path.exists(FALLBACK_CONFIG_PATH) else path
    return ProcessorConfig.from_file(fallback, _image_defaults()), fallback


def _image_defaults() -> Dict[str, Any]:
    """Return the values of the configuration that depend on the image."""
    everywhere = "0.0.0.0"  # noqa: S104 - the container's own network
    return {
        "code": CODE_PATH,
        "interpreter": handler_interpreter(),
        "models": MODELS_PATH,
        "sdk_path": os.path.join(_HOME, "sdk"),
        "grpc_packages": os.path.join(_HOME, "grpc"),
        # Clients wait while the model loads, however long that takes.
        "accept": "when-settled",
        "listeners": {
            "http": {"host": everywhere, "port": HTTP_PORT},
            "grpc": {"host": everywhere, "port": GRPC_PORT},
            "admin": {"host": everywhere, "port": health.PORT},
        },
    }


def handler_interpreter() -> str:
    """Return the handler's Python: NUCLIO_PYTHON_EXE_PATH, python3, python, or this one.

    The variable and python3 are as in Nuclio (pkg/processor/runtime/python/runtime.go). Raises
    ConfigFileError if the variable names no program.
    """
    name = os.environ.get(_INTERPRETER_VARIABLE, "").strip()
    if name:
        path = _which(name)
        if path is None:
            raise ConfigFileError(
                "%s=%s is not a program in this image" % (_INTERPRETER_VARIABLE, name)
            )
        return path
    return _which("python3") or _which_python3("python") or sys.executable


def _which(name: str) -> Optional[str]:
    folders = [""] if "/" in name else os.get_exec_path()
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _which_python3(name: str) -> Optional[str]:
    """Return the program of that name, or None if it is older than Python 3.6."""
    path = _which(name)
    if path is None:
        return None
    command = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 6))"]
    status = subprocess.call(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path if status == 0 else None


def _print_status() -> int:
    try:
        _code, body = health.get("/status")
    except OSError as problem:
        sys.stderr.write("no answer from %s:%d: %s\n" % (health.HOST, health.PORT, problem))
        return 1
    os.write(1, body + b"\n")
    return 0


def _post(path: str) -> int:
    """Send a request to the processor, and print its answer, also that of a refusal."""
    from .http import client

    origin = "http://%s:%d" % (health.HOST, health.PORT)
    try:
        response = client.request("POST", origin, path, b"", {}, _POST_TIMEOUT)
    except (OSError, ValueError) as problem:
        sys.stderr.write("no answer from %s: %s\n" % (origin, problem))
        return 1
    os.write(1, response.body + b"\n")
    return 0


def _recording(action: str) -> int:
    """List the recorded requests as JSON, write them as an archive, or remove them."""
    from .recording import files

    files.run(files.RECORDING_PATH, action, sys.stdout.buffer)
    return 0


def _wait(seconds: float) -> int:
    """Poll until the processor is ready, has failed, has ended, or time is up."""
    deadline = time.monotonic() + seconds
    interval = _FIRST_INTERVAL
    status = {"state": "starting", "reason": "the processor does not answer"}
    has_answered = False
    while True:
        try:
            status = json.loads(health.get("/status")[1].decode("utf-8"))
            has_answered = True
        except ConnectionRefusedError:
            if has_answered:
                status["state"] = "stopped"
        except OSError:
            # Busy, or about to end: the next poll tells.
            pass
        if status["state"] != "starting" or time.monotonic() >= deadline:
            break
        time.sleep(interval)
        interval = min(interval * 1.5, _MAX_INTERVAL)
    sys.stdout.write(json.dumps(status) + "\n")
    return 0 if status["state"] == "ready" else 1
