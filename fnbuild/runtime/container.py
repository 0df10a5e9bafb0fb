"""The program `processor` in an image.

    processor [--config FILE]      serve until a signal
    processor --health             exit with status 0 if every worker is ready
    processor --status             print the status as JSON
    processor --wait SECONDS       wait until the function is ready or has failed, then do the same
    processor --check-import       import the handler without a GPU; see `importcheck`
    processor --invoke URL         call another function once; exit with status 0 for a 2xx reply
    processor --version

The configuration is what `fnbuild.build.processor` makes of the function. This module adds the
paths and ports of an image; keys in the file take precedence over them.
"""

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from fnbuild import __version__

from . import health
from .config import ConfigFileError, ProcessorConfig
from .logs import Log

if TYPE_CHECKING:
    import argparse


# What is quoted of a reply.
_MAX_ERROR_LENGTH = 300


def invoke(url: str, method: str, headers: Dict[str, str], body: str, timeout: float) -> int:
    """0 when the reply is 2xx, else 1, and why in one line on stderr.

    Without a `method` it is POST with a body and GET without, as curl has it. `timeout` is in
    seconds, for each wait.
    """
    trouble = _request_failure(url, method or ("POST" if body else "GET"), headers, body, timeout)
    if trouble is None:
        return 0
    sys.stderr.write("%s: %s\n" % (url, " ".join(trouble.split())[:_MAX_ERROR_LENGTH]))
    return 1


def _request_failure(
    url: str, method: str, headers: Dict[str, str], body: str, timeout: float
) -> Optional[str]:
    # Late, since no other command needs these.
    from urllib.parse import urlsplit, urlunsplit

    from .http import client

    parts = urlsplit(url)
    where = "%s://%s" % parts[:2]
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    data = body.encode("utf-8", "surrogateescape") or None
    try:
        answer = client.request(method, where, path, data, headers, timeout)
    except (OSError, ValueError) as problem:
        return str(problem) or type(problem).__name__
    if 200 <= answer.status < 300:
        return None
    return "status %d: %s" % (answer.status, answer.body.decode("utf-8", "replace"))


# As Nuclio lays out its images; the file is its processor.yaml as JSON.
CONFIG_PATH = "/etc/nuclio/config/processor/processor.json"
CODE_PATH = "/opt/nuclio"
HTTP_PORT = 8080

_INTERPRETER_VARIABLE = "NUCLIO_PYTHON_EXE_PATH"
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The same file once more: Nuclio's controller mounts a folder of its own, with its processor.yaml,
# over the usual place (pkg/platform/kube/functionres/lazy.go).
FALLBACK_CONFIG_PATH = os.path.join(_HOME, "processor.json")

# Goes before the spare file: the same JSON, from whoever deploys through Nuclio.
CONFIG_VARIABLE = "FNBUILD_PROCESSOR"

# Between two looks, in seconds: the first soon, for most functions are ready soon.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2


def main() -> int:
    """Run one of the commands above: 0, 1 when it failed, 2 for usage and configuration."""
    if not sys.argv[1:]:
        return _serve(CONFIG_PATH)
    given = _parse_arguments()
    if given.health:
        return health.main()
    if given.status:
        return _print_status()
    if given.wait is not None:
        return _wait(given.wait)
    if given.invoke is not None:
        headers = dict(given.header)
        return invoke(given.invoke, given.method, headers, given.body, given.timeout)
    return (_check_import if given.check_import else _serve)(given.config)


def _parse_arguments() -> "argparse.Namespace":
    # It would be a tenth of the time that an image needs to start.
    import argparse

    parser = argparse.ArgumentParser(prog="processor", description="Serve the function.")
    python = "%s %d.%d.%d" % (sys.implementation.name, *sys.version_info[:3])
    about = "processor of fnbuild %s (%s)" % (__version__, python)
    parser.add_argument(
        "--config", metavar="FILE", default=CONFIG_PATH, help="default: %(default)s"
    )
    parser.add_argument("--version", action="version", version=about)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--health", action="store_true", help="whether every worker is ready")
    one.add_argument("--status", action="store_true", help="print the status as JSON")
    one.add_argument("--wait", metavar="SECONDS", type=float, help="wait until ready or failed")
    one.add_argument("--check-import", action="store_true", help="import the handler, then end")
    one.add_argument("--invoke", metavar="URL", help="call another function once")
    call = parser.add_argument_group("of --invoke")
    call.add_argument("--method", default="", help="default: POST with a body, else GET")
    call.add_argument("--header", metavar="K=V", type=_parse_header, action="append", default=[])
    call.add_argument("--body", metavar="TEXT", default="")
    call.add_argument("--timeout", metavar="SECONDS", type=float, default=600.0)
    return parser.parse_args()


def _parse_header(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(text)
    return name, value


def _serve(path: str) -> int:
    # This Python runs without site-packages, which may hold anything; spans need them.
    if any(name.startswith("OTEL_") for name in os.environ):
        import site

        site.main()
    try:
        config, origin = _read_config(path)
    except ConfigFileError as problem:
        Log().error(str(problem))
        return 2
    if origin != path:
        text = "%s is not there: the configuration is that of %s"
        Log(config.log_level, config.log_format).info(text % (path, origin))
    from .processor.processor import serve

    return serve(config)


def _check_import(path: str) -> int:
    from . import importcheck

    try:
        config, _origin = _read_config(path)
    except ConfigFileError as problem:
        Log().error(str(problem))
        return 2
    return importcheck.report(importcheck.check(config))


def _read_config(path: str) -> Tuple[ProcessorConfig, str]:
    """The configuration, and where it is from."""
    if path != CONFIG_PATH or os.path.exists(path):
        return ProcessorConfig.from_file(path, _image_defaults()), path
    given = os.environ.get(CONFIG_VARIABLE, "").encode("utf-8")
    if given:
        return ProcessorConfig.from_json(given, CONFIG_VARIABLE, _image_defaults()), CONFIG_VARIABLE
    spare = FALLBACK_CONFIG_PATH if os.path.exists(FALLBACK_CONFIG_PATH) else path
    return ProcessorConfig.from_file(spare, _image_defaults()), spare


def _image_defaults() -> Dict[str, Any]:
    """What of the configuration depends on the place."""
    everywhere = "0.0.0.0"  # noqa: S104 - the container's own network
    return {
        "code": CODE_PATH,
        "interpreter": handler_interpreter(),
        "sdk_path": os.path.join(_HOME, "sdk"),
        # Callers who come while the model loads wait for it, however long that takes.
        "accept": "when-settled",
        "listeners": {
            "http": {"host": everywhere, "port": HTTP_PORT},
            "admin": {"host": everywhere, "port": health.PORT},
        },
    }


def handler_interpreter() -> str:
    """The handler's Python: the one asked for, else python3 or python of PATH, else this one.

    Nuclio knows the first two (pkg/processor/runtime/python/runtime.go). ConfigFileError when the
    one asked for is not there.
    """
    asked = os.environ.get(_INTERPRETER_VARIABLE, "").strip()
    if asked:
        found = _which(asked)
        if found is None:
            raise ConfigFileError(
                "%s=%s is no program in this image" % (_INTERPRETER_VARIABLE, asked)
            )
        return found
    return _which("python3") or _which_python3("python") or sys.executable


def _which(name: str) -> Optional[str]:
    folders = [""] if "/" in name else os.get_exec_path()
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _which_python3(name: str) -> Optional[str]:
    """The program of that name unless it is a Python 2."""
    path = _which(name)
    if path is None:
        return None
    asked = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 6))"]
    ended = subprocess.call(asked, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path if ended == 0 else None


def _print_status() -> int:
    try:
        _code, body = health.get("/status")
    except OSError as problem:
        sys.stderr.write("nothing answers at %s:%d: %s\n" % (health.HOST, health.PORT, problem))
        return 1
    os.write(1, body + b"\n")
    return 0


def _wait(seconds: float) -> int:
    """Look until the processor is ready, has failed, is gone, or time is up."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    said = {"state": "starting", "reason": "the processor does not answer"}
    seen = False
    while True:
        try:
            said = json.loads(health.get("/status")[1].decode("utf-8"))
            seen = True
        except ConnectionRefusedError:
            if seen:
                said["state"] = "stopped"
        except OSError:
            # Busy, or in the middle of its end: the next look tells.
            pass
        if said["state"] != "starting" or time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    sys.stdout.write(json.dumps(said) + "\n")
    return 0 if said["state"] == "ready" else 1
