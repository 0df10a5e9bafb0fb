"""Provide `kserve`, `kserve_storage` and `kfserving` to models whose environment lacks them.

The finder is the last of all, so that installed packages take precedence.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, Optional

_SOURCES = {
    "kserve": "fnbuild.runtime.kserve.kserve_api",
    "kserve_storage": "fnbuild.runtime.kserve.storage",
    "kfserving": "fnbuild.runtime.kserve.kfserving_api",
}

# Each module has all names of the package, some of which real models import from there.
_SUBMODULES = {
    "kserve": (
        "constants", "constants.constants", "errors", "logging", "model", "model_server",
        "protocol", "protocol.infer_type", "storage", "utils", "utils.utils",
    ),
    "kfserving": ("constants", "constants.constants", "kfmodel", "kfserver", "storage"),
}  # fmt: skip


def _names() -> Dict[str, str]:
    names = {}
    for package, source in _SOURCES.items():
        names[package] = source
        for part in _SUBMODULES.get(package, ()):
            names["%s.%s" % (package, part)] = source
    return names


class ProvidedModules:
    """A finder and loader of these modules."""

    def __init__(self) -> None:
        self._sources = _names()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Return the spec of a provided module, or None."""
        if name not in self._sources:
            return None
        prefix = name + "."
        is_package = any(other.startswith(prefix) for other in self._sources)
        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Return None: the import system creates the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module the public names of its source; import what is below it."""
        source = importlib.import_module(self._sources[module.__name__])
        public = {name: value for name, value in vars(source).items() if name[0] != "_"}
        module.__dict__.update(public)
        prefix = module.__name__ + "."
        for name in self._sources:
            # A submodule becomes an attribute of its package.
            if name.startswith(prefix) and "." not in name[len(prefix) :]:
                importlib.import_module(name)


def provide_packages() -> None:
    """Make the packages importable in this process."""
    if not any(isinstance(finder, ProvidedModules) for finder in sys.meta_path):
        sys.meta_path.append(ProvidedModules())
