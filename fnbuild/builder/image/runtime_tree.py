"""The runtime in an image: a tree that is the same for every function on a Python.

    fnbuild/fnbuild/        the package, as far as it runs beside handlers     -> /opt/fnbuild
    fnbuild/sdk/RELEASE/    nuclio_sdk; workers choose a release by their Python
    processor               the program                                        -> /usr/local/bin

Its files have fixed times and modes, so that equal content gives equal archives. If the image has
the Python of this process, its modules are compiled: otherwise each start of a container would
compile them.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import struct
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import fnbuild
from fnbuild.builder import sdk
from fnbuild.builder.image.probe import ImagePython
from fnbuild.names import RUNTIME_FOLDER

FILE_TIMESTAMP = 315532800
"""The time of every file that fnbuild puts into an image: 1980, the earliest in zip files."""

_RUNTIME_PACKAGES = ("runtime", "vision")
_SDK_PACKAGE = "nuclio_sdk"
_SOURCE_SUFFIXES = (".py", ".proto")
# Linux before 5.1 reads this many bytes of a script's first line, including its end.
_MAX_SHEBANG_BYTES = 127
# -I and -S: ignore the environment, user packages and site-packages, which belong to the handler.
# Virtual environments of virtualenv before 20 only find the standard library by their site module.
_PROCESSOR_SCRIPT = f"""\
import os
import sys

if os.path.exists(os.path.join(os.path.dirname(os.__file__), "orig-prefix.txt")):
    import site

    site.main()
sys.path.insert(0, "{RUNTIME_FOLDER}")
if sys.argv[1:] == ["--health"]:
    from fnbuild.runtime.health import main
else:
    import signal

    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    from fnbuild.runtime.container import main
sys.exit(main())
"""


def write_runtime(destination: Path, python: ImagePython, offline: bool = False) -> None:
    """Write the runtime to `destination`/fnbuild and `destination`/processor.

    `python` runs the processor; an image with Python 3.6 also gets the nuclio_sdk for it. `offline`
    prevents downloads. Raises `BuildError` if a release of nuclio_sdk is not available.
    """
    home = destination / "fnbuild"
    package = Path(fnbuild.__file__).parent
    sources = {package / "__init__.py": home / "fnbuild" / "__init__.py"}
    for part in _RUNTIME_PACKAGES:
        sources |= _sources(package / part, home / "fnbuild" / part)
    for folder in _sdk_folders(python, offline):
        sources |= _sources(folder / _SDK_PACKAGE, home / "sdk" / folder.name / _SDK_PACKAGE)
    compiles = _runs_same_bytecode(python)
    for source, target in sources.items():
        content = source.read_bytes()
        _write_file(target, content)
        if compiles and source.suffix == ".py":
            path = f"{RUNTIME_FOLDER}/{target.relative_to(home)}"
            name = f"{target.stem}.{sys.implementation.cache_tag}.pyc"
            _write_file(target.parent / "__pycache__" / name, _bytecode(source, path))
    path = python.path
    if _unfit_for_shebang(path):
        path = f"{RUNTIME_FOLDER}/python"
        os.symlink(python.path, home / "python")
    _write_file(destination / "processor", os.fsencode(_shebang(path) + _PROCESSOR_SCRIPT))
    (destination / "processor").chmod(0o755)
    _normalize(destination / "processor")
    _normalize(home)


def _sdk_folders(python: ImagePython, offline: bool) -> list[Path]:
    """Return the SDKs, always with the newest: a deploy may select another interpreter."""
    newest = sdk.ensure_sdk((3, 7, 0))
    if python.version >= (3, 7):
        return [newest]
    return [sdk.ensure_sdk(python.version, offline), newest]


def _shebang(path: str) -> str:
    return f"#!{path} -IS\n"


def _unfit_for_shebang(path: str) -> bool:
    """Return True if the kernel could not read the interpreter's path in a script's first line."""
    return len(os.fsencode(_shebang(path))) > _MAX_SHEBANG_BYTES or any(map(str.isspace, path))


def _sources(source: Path, target: Path) -> dict[Path, Path]:
    """Return the source files of a folder, and their paths below `target`."""
    return {
        path: target / path.relative_to(source)
        for path in sorted(source.rglob("*"))
        if path.suffix in _SOURCE_SUFFIXES
    }


def _runs_same_bytecode(python: ImagePython) -> bool:
    this = (sys.implementation.name, sys.version_info[:2], sys.flags.optimize)
    return this == (python.implementation, python.version[:2], 0)


def _bytecode(source: Path, path: str) -> bytes:
    """Return the compiled module, a `.pyc` file for a source file at `path` in the image."""
    code = SourceFileLoader(source.stem, str(source)).get_code(source.stem)
    assert code is not None
    header = struct.pack("<III", 0, FILE_TIMESTAMP, source.stat().st_size)
    # Later formats of marshal depend on what else the process has imported.
    return importlib.util.MAGIC_NUMBER + header + marshal.dumps(_with_path(code, path), 2)


def _with_path(code: CodeType, path: str) -> CodeType:
    constants = (
        _with_path(value, path) if isinstance(value, CodeType) else value
        for value in code.co_consts
    )
    return code.replace(co_filename=path, co_consts=tuple(constants))


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def _normalize(top: Path) -> None:
    """Set the modes of folders and all times; the content of a folder comes first."""
    for path in (*sorted(top.rglob("*"), reverse=True), top):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (FILE_TIMESTAMP, FILE_TIMESTAMP), follow_symlinks=False)
