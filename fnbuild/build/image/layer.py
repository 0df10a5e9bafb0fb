"""The runtime as a tree to copy into images: what is the same for every function.

    fnbuild/fnbuild/        the package, as far as it runs beside handlers     -> /opt/fnbuild
    fnbuild/sdk/RELEASE/    nuclio_sdk, of which workers choose by their Python
    processor               the program                                        -> /usr/local/bin

The same versions give the same bytes, modes and times: engines and registries keep one layer.
"""

from __future__ import annotations

import os
from pathlib import Path

import fnbuild
from fnbuild.build import sdk
from fnbuild.build.image.pythons import Python

HOME = "/opt/fnbuild"
"""Where the tree lies in an image."""

MTIME = 315532800
"""The time of every file that fnbuild puts into an image: 1980 began, and zip files with it."""

_PARTS = ("runtime", "vision")
_PACKAGE = "nuclio_sdk"

# Linux before 5.1 reads so many bytes of a script's first line, the end of the line among them.
_LONGEST_LINE = 127

# -I and -S: nothing of the container's environment, user or site-packages gets in, which belong to
# the handler. A virtual environment as they were made until 2020 finds its standard library by its
# site module alone.
_SCRIPT = f"""\
import os
import sys

if os.path.exists(os.path.join(os.path.dirname(os.__file__), "orig-prefix.txt")):
    import site

    site.main()
sys.path.insert(0, "{HOME}")
if sys.argv[1:] == ["--health"]:
    from fnbuild.runtime.health import main
else:
    import signal

    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    from fnbuild.runtime.container import main
sys.exit(main())
"""


def write(
    destination: Path, python: Python, handler: Python | None = None, offline: bool = False
) -> None:
    """Make `destination`/fnbuild and `destination`/processor.

    `python` runs the processor. `handler` is the Python of the workers when it is another one: an
    image with Python 3.6 gets the nuclio_sdk for that besides. `offline` forbids to fetch it.

    Raises `BuildError` when a release of nuclio_sdk cannot be had.
    """
    home = destination / "fnbuild"
    package = Path(fnbuild.__file__).parent
    _copy(package / "__init__.py", home / "fnbuild" / "__init__.py")
    for part in _PARTS:
        _copy_sources(package / part, home / "fnbuild" / part)
    for folder in _releases(handler or python, offline):
        _copy_sources(folder / _PACKAGE, home / "sdk" / folder.name / _PACKAGE)
    path = python.path
    if _unfit_for_script(path):
        path = f"{HOME}/python"
        os.symlink(python.path, home / "python")
    _write(destination / "processor", os.fsencode(_first_line(path) + _SCRIPT))
    (destination / "processor").chmod(0o755)
    _settle(destination / "processor")
    _settle(home)


def _releases(handler: Python, offline: bool) -> list[Path]:
    """The newest release always: the interpreter can be chosen anew when the image is deployed."""
    newest = sdk.ensure_for((3, 7, 0))
    return (
        [newest]
        if handler.version >= (3, 7)
        else [sdk.ensure_for(handler.version, offline), newest]
    )


def _first_line(path: str) -> str:
    return f"#!{path} -IS\n"


def _unfit_for_script(path: str) -> bool:
    """Whether the kernel could not read the interpreter's path in the first line of a script."""
    return len(os.fsencode(_first_line(path))) > _LONGEST_LINE or any(map(str.isspace, path))


def _copy_sources(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*.py")):
        _copy(path, target / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def _settle(top: Path) -> None:
    """Give folders their mode and everything its time; what is inside a folder comes first."""
    for path in (*sorted(top.rglob("*"), reverse=True), top):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
