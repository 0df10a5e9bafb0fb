"""`kserve`, `kserve_storage` and `kfserving` for models whose environment lacks them."""

from typing import Dict

from ..provided_modules import provide_modules

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


def provide_packages() -> None:
    """Make the packages importable in this process."""
    provide_modules(_names())
