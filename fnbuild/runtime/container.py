"""`processor`, the program in an image.

    processor [--config FILE]      serve, until a signal
    processor --health             exit status 0 when every worker is ready
    processor --status             the status as JSON
    processor --wait SECONDS       the same, once it is known whether the function is ready
    processor --check-import       import the handler without a GPU; see `importcheck`
    processor --invoke URL         call another function once; exit status 0 when the reply is 2xx
    processor --version

The configuration is what `fnbuild.builder.processor_settings` makes of the function; where things
lie in an image is known here. Keys in the file go before these.
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

# As Nuclio lays out its images; the file is its processor.yaml as JSON.
CONFIG = "/etc/nuclio/config/processor/processor.json"
CODE = "/opt/nuclio"
HTTP_PORT = 8080

_EXECUTABLE = "NUCLIO_PYTHON_EXE_PATH"
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The same file once more: Nuclio's controller mounts a folder of its own, with its processor.yaml,
# over the usual place (pkg/platform/kube/functionres/lazy.go).
SPARE_CONFIG = os.path.join(_HOME, "processor.json")

# Goes before the spare file: the same JSON, from whoever deploys through Nuclio.
CONFIG_VARIABLE = "FNBUILD_PROCESSOR"

# Between two looks, in seconds: the first soon, for most functions are ready soon.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2


def main() -> int:
    """Run one of the commands above: 0, 1 when it failed, 2 for usage and configuration."""
    if not sys.argv[1:]:
        return _serve(CONFIG)
    given = _parse()
    if given.health:
        return health.main()
    if given.status:
        return _status()
    if given.wait is not None:
        return _wait(given.wait)
    if given.invoke is not None:
        from . import invocation

        headers = dict(given.header)
        return invocation.main(given.invoke, given.method, headers, given.body, given.timeout)
    return (_check_import if given.check_import else _serve)(given.config)


def _parse() -> "argparse.Namespace":
    # It would be a tenth of the time that an image needs to start.
    import argparse

    parser = argparse.ArgumentParser(prog="processor", description="Serve the function.")
    python = "%s %d.%d.%d" % (sys.implementation.name, *sys.version_info[:3])
    about = "processor of fnbuild %s (%s)" % (__version__, python)
    parser.add_argument("--config", metavar="FILE", default=CONFIG, help="default: %(default)s")
    parser.add_argument("--version", action="version", version=about)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--health", action="store_true", help="whether every worker is ready")
    one.add_argument("--status", action="store_true", help="print the status as JSON")
    one.add_argument("--wait", metavar="SECONDS", type=float, help="wait until ready or failed")
    one.add_argument("--check-import", action="store_true", help="import the handler, then end")
    one.add_argument("--invoke", metavar="URL", help="call another function once")
    call = parser.add_argument_group("of --invoke")
    call.add_argument("--method", default="", help="default: POST with a body, else GET")
    call.add_argument("--header", metavar="K=V", type=_header, action="append", default=[])
    call.add_argument("--body", metavar="TEXT", default="")
    call.add_argument("--timeout", metavar="SECONDS", type=float, default=600.0)
    return parser.parse_args()


def _header(text: str) -> Tuple[str, str]:
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
        config, origin = _config(path)
    except ConfigFileError as problem:
        Log().error(str(problem))
        return 2
    if origin != path:
        text = "%s is not there: the configuration is that of %s"
        Log(config.log_level, config.log_format).info(text % (path, origin))
    from .processor import serve

    return serve(config)


def _check_import(path: str) -> int:
    from . import importcheck

    try:
        config, _origin = _config(path)
    except ConfigFileError as problem:
        Log().error(str(problem))
        return 2
    return importcheck.report(importcheck.check(config))


def _config(path: str) -> Tuple[ProcessorConfig, str]:
    """The configuration, and where it is from."""
    if path != CONFIG or os.path.exists(path):
        return ProcessorConfig.from_file(path, _place()), path
    given = os.environ.get(CONFIG_VARIABLE, "").encode("utf-8")
    if given:
        return ProcessorConfig.from_json(given, CONFIG_VARIABLE, _place()), CONFIG_VARIABLE
    spare = SPARE_CONFIG if os.path.exists(SPARE_CONFIG) else path
    return ProcessorConfig.from_file(spare, _place()), spare


def _place() -> Dict[str, Any]:
    """What of the configuration depends on the place."""
    everywhere = "0.0.0.0"  # noqa: S104 - the container's own network
    return {
        "code": CODE,
        "interpreter": interpreter(),
        "sdk_path": os.path.join(_HOME, "sdk"),
        # Callers who come while the model loads wait for it, however long that takes.
        "accept": "when-settled",
        "listeners": {
            "http": {"host": everywhere, "port": HTTP_PORT},
            "admin": {"host": everywhere, "port": health.PORT},
        },
    }


def interpreter() -> str:
    """The handler's Python: the one asked for, else python3 or python of PATH, else this one.

    Nuclio knows the first two (pkg/processor/runtime/python/runtime.go). ConfigFileError when the
    one asked for is not there.
    """
    asked = os.environ.get(_EXECUTABLE, "").strip()
    if asked:
        found = _which(asked)
        if found is None:
            raise ConfigFileError("%s=%s is no program in this image" % (_EXECUTABLE, asked))
        return found
    return _which("python3") or _modern("python") or sys.executable


def _which(name: str) -> Optional[str]:
    folders = [""] if "/" in name else os.get_exec_path()
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def _modern(name: str) -> Optional[str]:
    """The program of that name unless it is a Python 2."""
    path = _which(name)
    if path is None:
        return None
    asked = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 6))"]
    ended = subprocess.call(asked, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path if ended == 0 else None


def _status() -> int:
    try:
        _code, body = health.ask("/status")
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
            said = json.loads(health.ask("/status")[1].decode("utf-8"))
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
