"""Import the handler, check its signature, and swap its entry module for new code.

The entry module is always compiled from its source: a cached file with the same coarse timestamp
as the source could hold older code.
"""

import importlib
import importlib.util
import linecache
import os
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from .. import tracebacks
from ..load_error import LoadError
from ..torchserve import MANIFEST_PATH

if TYPE_CHECKING:
    from ..kserve.model_source import ModelSource
    from ..torchserve.archive_source import ArchiveSource

_HANDLER = re.compile(r"([\w\-./]+?)(?:\.py)?(?::(\w+))?\Z")

# A package with classes of models.
_PACKAGE = re.compile(r"\b(?:kserve|kfserving)\b")


def signature_problem(function: Any, name: str, arguments: Tuple[str, ...]) -> str:
    """Return the reason why a function cannot take these arguments, with its location; or ""."""
    if type(function) is FunctionType:
        code = function.__code__
        if code.co_argcount == len(arguments) and not code.co_kwonlyargcount:
            return ""
    # Late, since it is slow to import and rarely needed.
    import inspect

    try:
        # The call is to the decorator's wrapper, not to the wrapped function.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        # A callable implemented in C may have no signature; the call will tell.
        return ""
    try:
        signature.bind(*arguments)
    except TypeError as problem:
        message = "%s%s%s cannot be called as %s(%s): %s"
        return message % (_location(function), name, signature, name, ", ".join(arguments), problem)
    return ""


def _location(function: Any) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return "%s:%d: " % (os.path.basename(code.co_filename), code.co_firstlineno)


def run_guarded(step: Callable[[], Any]) -> Dict[str, str]:
    """Run code of the handler; return its error as reason and full text, or an empty dict."""
    try:
        step()
    except LoadError as problem:
        return {"reason": str(problem), "message": str(problem), "type": "LoadError"}
    # Any exception of the handler's code is reported to its author and ends this process only.
    except BaseException as error:  # noqa: BLE001
        reason, message = tracebacks.summarize_error(error), tracebacks.format_error(error)
        if isinstance(error, SystemExit) and isinstance(error.code, str):
            # As Python does: the text of an exit is the whole message.
            reason = message = tracebacks.error_message(error)
        return {"reason": reason, "message": message, "type": type(error).__name__}
    return {}


def parse_handler(handler: str, default: str = "handler") -> Tuple[str, str]:
    """Return module and function of `main:handler`, `sub.module:function` or `main`."""
    match = _HANDLER.match(handler)
    if match is None or ".." in handler:
        raise LoadError('"%s" is not a handler; it must look like "main:handler"' % handler)
    module = match.group(1).replace("/", ".").strip(".")
    return module, match.group(2) or default


def _names_model(text: str, name: str) -> bool:
    """Return True if the handler's name or the source of its module lets expect a model."""
    if re.search(r"^(?:async +)?def +%s\b" % name, text, re.MULTILINE):
        return False
    # A class, a script, or a module that starts a server.
    is_class = name[:1].isupper()
    return is_class or name == "__main__" or bool(_PACKAGE.search(text))


class HandlerLoader:
    """The loader of one handler, or of a model of KServe or TorchServe in its place.

    A folder with an archive of TorchServe has such a model if its manifest names the same handler.

    `module` is the entry module after `load`; `init_context` and `explain` are its functions of
    these names, or methods of the `model`. A model has `model_name` in URLs; `arguments` are those
    of its script.
    """

    def __init__(
        self, handler: str, folder: str, model_name: str = "", arguments: Sequence[str] = ()
    ) -> None:
        self._archive = _find_archive(folder, handler, model_name)
        default = "handler" if self._archive is None else "handle"
        self.module_name, self.function_name = parse_handler(handler, default)
        self.folder = folder
        self.module: Optional[ModuleType] = None
        self.is_model = False
        self.model: Any = None
        self.init_context: Optional[Callable[[Any], Any]] = None
        self.explain: Optional[Callable[[Any, Any], Any]] = None
        self._model_name = model_name
        self._arguments = arguments
        self._model: Union[ModelSource, ArchiveSource, None] = self._archive

    def load(self) -> Callable[..., Any]:
        """Import the entry module and return the handler. Exceptions of its code are not caught."""
        if self._archive is not None:
            self._archive.prepare()
        spec = self._find()
        self._prepare_model(spec)
        loaded = sys.modules.get(self.module_name)
        if loaded is not None and _is_loaded_from(loaded, spec):
            # Its package or another module has imported it.
            self.module = loaded
        elif isinstance(spec.loader, SourceFileLoader):
            self.module = self._execute(spec)
        else:
            self.module = importlib.import_module(self.module_name)
        return self._function(self.module)

    def reload(self) -> Callable[..., Any]:
        """Return the handler of the module's new source. After an error the old module stays."""
        linecache.checkcache()
        module = self._execute(self._find())
        try:
            function = self._function(module)
        except LoadError:
            if self.module is not None:
                self._publish(self.module)
            raise
        self.module = module
        return function

    def _prepare_model(self, spec: ModuleSpec) -> None:
        """Prepare the import of a module that may have a model."""
        if self._archive is not None:
            return
        if not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            return
        with open(spec.origin, "rb") as file:
            text = file.read().decode("utf-8", "replace")
        if not _has_predictor(self._arguments) and not _names_model(text, self.function_name):
            return
        # Late, since few functions are models.
        from ..kserve.model_source import ModelSource

        self._model = ModelSource(spec.origin, text, self._model_name, self._arguments)
        self._model.prepare()

    def _find(self) -> ModuleSpec:
        importlib.invalidate_caches()
        parent, _, leaf = self.module_name.rpartition(".")
        if parent:
            try:
                path = list(importlib.import_module(parent).__path__)
            except ModuleNotFoundError as problem:
                if problem.name != parent.partition(".")[0]:
                    raise
                raise LoadError(self._missing(parent.partition(".")[0])) from None
            except AttributeError:
                raise LoadError("%s is a module, not a folder of modules" % parent) from None
            spec = PathFinder.find_spec(self.module_name, path)
        else:
            # The function's folder first: its module may have the name of a standard one.
            spec = PathFinder.find_spec(leaf, [self.folder]) or PathFinder.find_spec(leaf)
            if spec is None and self._archive is not None:
                spec = self._archive.find_default(leaf)
                self.module_name = self.module_name if spec is None else spec.name
        if spec is None or spec.loader is None:
            raise LoadError(self._missing(leaf))
        return spec

    def _execute(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.util.module_from_spec(spec)
        loader = spec.loader
        if not isinstance(loader, SourceFileLoader):
            raise LoadError("%s is not Python source and cannot be swapped" % spec.origin)
        path = loader.get_filename(spec.name)
        code = loader.source_to_code(loader.get_data(path), path)
        before = sys.modules.get(spec.name)
        if before is not None and not _is_loaded_from(before, spec):
            # It has the name of a standard module, which others go on importing.
            exec(code, module.__dict__)  # noqa: S102 - running the function's code is the purpose
            return module
        self._publish(module)
        try:
            exec(code, module.__dict__)  # noqa: S102 - running the function's code is the purpose
        except BaseException:
            if before is None:
                sys.modules.pop(spec.name, None)
            else:
                self._publish(before)
            raise
        return module

    def _publish(self, module: ModuleType) -> None:
        sys.modules[self.module_name] = module
        parent, _, leaf = self.module_name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)

    def _function(self, module: ModuleType) -> Callable[..., Any]:
        name = self.function_name
        file = os.path.basename(getattr(module, "__file__", None) or self.module_name)
        function = getattr(module, name, None)
        model = self._model.find(module, name) if self._model is not None else None
        self.model = model
        self.is_model = model is not None
        self.init_context = getattr(model or module, "init_context", None)
        self.explain = getattr(model or module, "explain", None)
        if model is not None:
            return model
        if callable(function):
            problem = signature_problem(function, name, ("context", "event"))
            if problem:
                raise LoadError(problem)
            return function  # type: ignore[no-any-return]
        if hasattr(module, name):
            kind = type(function).__name__
            raise LoadError("%s in %s is a %s, not a function" % (name, file, kind))
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("__")]
        raise LoadError("%s has no function %s%s" % (file, name, _suggestion(name, names)))

    def _missing(self, leaf: str) -> str:
        try:
            entries = os.listdir(self.folder)
        except OSError as problem:
            return "the function's folder cannot be read: %s" % problem
        names = [e[:-3] for e in entries if e.endswith(".py")]
        names += [e for e in entries if os.path.isdir(os.path.join(self.folder, e))]
        text = 'there is no module "%s" (%s.py) in the function\'s folder' % (leaf, leaf)
        return text + _suggestion(leaf, names)


def _find_archive(folder: str, handler: str, model_name: str) -> "Optional[ArchiveSource]":
    """Return the archive in the folder if its handler is the function's."""
    path = os.path.join(folder, MANIFEST_PATH)
    if not os.path.isfile(path):
        return None
    # Late, since few functions come from archives.
    from ..torchserve.archive_source import ArchiveSource, read_manifest

    manifest = read_manifest(path)
    own_handler = manifest["model"]["handler"].rpartition("/")[2]
    is_own = parse_handler(own_handler, "handle") == parse_handler(handler, "handle")
    return ArchiveSource(folder, manifest, model_name) if is_own else None


def _has_predictor(arguments: Sequence[str]) -> bool:
    return any(argument.partition("=")[0] == "--predictor_host" for argument in arguments)


def _is_loaded_from(module: ModuleType, spec: ModuleSpec) -> bool:
    return getattr(module, "__file__", None) == spec.origin


def _suggestion(word: str, words: List[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, words, 1, 0.6)
    return "; did you mean %s?" % close[0] if close else ""
