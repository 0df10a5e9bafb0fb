"""fnbuild.vision as one module, for functions that run without fnbuild: on Nuclio's own processor.

The module is `fnbuild.py` in the function's folder. In fnbuild's workers it has no effect: they
have imported the package `fnbuild` before the function's folder is searched.
"""

from __future__ import annotations

import ast
from pathlib import Path

import fnbuild.vision
from fnbuild import __version__
from fnbuild.errors import ConflictError, InputError

VISION_FILE = "fnbuild.py"

_HEAD = '"""fnbuild.vision'
_PACKAGE = "fnbuild.vision"
_TEMPLATE = '''\
{head} {version} in one file, written by `fnbuild package vision`.

Nuclio's processor imports it from the function's folder; an installed fnbuild takes its place.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys

__version__ = "{version}"


def _installed():
    """Return the folders of an installed fnbuild, which a test of the function imports, too."""
    for path in sys.path:
        spec = importlib.machinery.PathFinder.find_spec("fnbuild", [path])
        if spec and spec.submodule_search_locations:
            return list(spec.submodule_search_locations)
    return []


__path__ = _installed()


class _Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules whose source is below."""

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in _SOURCES else None

    def get_source(self, name):
        return _SOURCES[name]

    def get_code(self, name):
        file = name.replace(".", "/") + (".py" if not self.is_package(name) else "/__init__.py")
        return self.source_to_code(_SOURCES[name], file)

    def is_package(self, name):
        return name == "{package}"


_SOURCES = {{}}
{sources}
sys.meta_path.append(_Sources())
'''


def write_vision_file(folder: Path) -> Path:
    """Write the module into the folder of a function; return its path.

    Raises `ConflictError` if another file has its name, and `InputError` without a folder.
    """
    path = folder / VISION_FILE
    try:
        if path.exists() and not path.read_text(encoding="utf-8").startswith(_HEAD):
            raise ConflictError(
                f"{path} is a file of yours", hint="rename it: it hides the package fnbuild"
            )
        path.write_text(vision_file(), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="`--path` names the function's folder"
        ) from None
    return path


def vision_file() -> str:
    """Return the source of the module, which runs on Python 3.6 and newer."""
    folder = Path(fnbuild.vision.__file__).parent
    parts = []
    for path in sorted(folder.glob("*.py")):
        name = _PACKAGE if path.stem == "__init__" else f"{_PACKAGE}.{path.stem}"
        parts.append(f'_SOURCES["{name}"] = {_literal(path.read_text(encoding="utf-8"))}\n')
    return _TEMPLATE.format(
        head=_HEAD, version=__version__, package=_PACKAGE, sources="".join(parts)
    )


def _literal(text: str) -> str:
    """Return a literal of a text, over several lines if possible."""
    literal = f"r'''{text}'''"
    try:
        is_same = ast.literal_eval(literal) == text
    except (SyntaxError, ValueError):
        is_same = False
    return literal if is_same else repr(text)
