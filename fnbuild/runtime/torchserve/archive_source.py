"""Find the handler of an unpacked archive, as TorchServe does.

The module that the manifest names is in the archive or installed, or else it is one of the default
handlers. It has a function `handle`, or that of `module:function`, or exactly one class.
"""

import importlib
import importlib.util
import json
import logging
import os
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, Optional

from ..load_error import LoadError
from .handler_api import list_classes_from_module
from .imports import provide_packages
from .model_handler import Archive, ArchiveHandler, EntryPoint
from .request_envelopes import ENVELOPES

_DEFAULT_HANDLERS = "ts.torch_handler"


class ArchiveSource:
    """The source of the handler in a folder with an archive's manifest."""

    def __init__(self, folder: str, manifest: Dict[str, Any], model_name: str) -> None:
        self._folder = folder
        self._manifest = manifest
        self._model_name = model_name

    def prepare(self) -> None:
        """Prepare this process for the import of the module."""
        provide_packages()
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)

    def find_default(self, name: str) -> Optional[ModuleSpec]:
        """Return the spec of a default handler's module, or None."""
        try:
            return importlib.util.find_spec("%s.%s" % (_DEFAULT_HANDLERS, name))
        except ModuleNotFoundError:
            return None

    def find(self, module: ModuleType, name: str) -> ArchiveHandler:
        """Return the handler for a function of the module, or for its class."""
        archive = Archive(self._folder, self._model_name, self._manifest, self._read_model_config())
        return ArchiveHandler(archive, partial(self._entry_point, module, name))

    def _entry_point(self, module: ModuleType, name: str) -> EntryPoint:
        handle = getattr(module, name, None)
        if handle is not None:
            # Called without data, a function loads the model.
            entry_point = EntryPoint(handle, partial(handle, None))
        else:
            instance = self._class(module, name)()
            entry_point = EntryPoint(instance.handle, instance.initialize)
        envelope = os.environ.get("TS_SERVICE_ENVELOPE")
        if not envelope:
            return entry_point
        if envelope not in ENVELOPES:
            names = ", ".join(sorted(ENVELOPES))
            raise LoadError("the envelope %r is not one of %s" % (envelope, names))
        return entry_point._replace(handle=ENVELOPES[envelope](entry_point.handle).handle)

    def _class(self, module: ModuleType, name: str) -> Any:
        classes: Any = list_classes_from_module(module)
        if not classes and module.__name__.startswith(_DEFAULT_HANDLERS):
            words = module.__name__.rpartition(".")[2].split("_")
            classes = [getattr(module, "".join(word.capitalize() for word in words))]
        place = "%s.py" % module.__name__
        if len(classes) != 1:
            names = ", ".join(sorted(kind.__name__ for kind in classes)) or "no class"
            message = "%s must define a function `%s` or exactly one class, and has %s"
            raise LoadError(message % (place, name, names))
        for method in ("initialize", "handle"):
            if not hasattr(classes[0], method):
                message = "the class %s in %s has no method %s"
                raise LoadError(message % (classes[0].__name__, place, method))
        return classes[0]

    def _read_model_config(self) -> Dict[str, Any]:
        name = self._manifest["model"].get("configFile")
        if not name:
            return {}
        try:
            yaml: Any = importlib.import_module("yaml")
        except ImportError:
            raise LoadError("%s needs PyYAML: add pyyaml to requirements.txt" % name) from None
        with open(os.path.join(self._folder, name), encoding="utf-8") as file:
            return yaml.safe_load(file) or {}


def read_manifest(path: str) -> Dict[str, Any]:
    """Return the manifest at the path; raise LoadError if it is invalid."""
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        handler = manifest["model"]["handler"]
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise LoadError("%s is not the manifest of an archive: %s" % (path, problem)) from None
    if not isinstance(handler, str):
        raise LoadError("%s names no handler" % path)
    return manifest  # type: ignore[no-any-return]
