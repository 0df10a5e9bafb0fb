"""Provide packages of model servers to models whose environment lacks them.

The finder is the last of all, so that installed packages take precedence.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, Optional


class ProvidedModules:
    """A finder and loader of modules.

    `sources` maps their names to the modules that have their content. `distribution` is the
    package on PyPI that has more of them.
    """

    def __init__(self, sources: Dict[str, str], distribution: str = "") -> None:
        self.sources = sources
        self._distribution = distribution

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Return the spec of a provided module, or None.

        Raises ModuleNotFoundError with the remedy for another module of such a package.
        """
        if name in self.sources:
            prefix = name + "."
            is_package = any(other.startswith(prefix) for other in self.sources)
            return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]
        if self._distribution and name.partition(".")[0] in self.sources:
            message = "No module named %r: add %s to requirements.txt"
            raise ModuleNotFoundError(message % (name, self._distribution), name=name)
        return None

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Return None: the import system creates the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module the public names of its source; import what is below it."""
        source = importlib.import_module(self.sources[module.__name__])
        for name, value in vars(source).items():
            if name[0] != "_" or name == "__version__":
                module.__dict__[name] = value
        prefix = module.__name__ + "."
        for name in self.sources:
            # A submodule becomes an attribute of its package.
            if name.startswith(prefix) and "." not in name[len(prefix) :]:
                importlib.import_module(name)


def provide_modules(sources: Dict[str, str], distribution: str = "") -> None:
    """Make these modules importable in this process."""
    finders = [finder for finder in sys.meta_path if isinstance(finder, ProvidedModules)]
    if not any(finder.sources == sources for finder in finders):
        sys.meta_path.append(ProvidedModules(sources, distribution))
