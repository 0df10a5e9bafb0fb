"""Find the model of an entry module: a class, or the one with which its script starts a server.

Started with the address of a predictor, a module with `preprocess` or `postprocess` is a model,
too, whatever its handler is.

A script has the form

    if __name__ == "__main__":
        kserve.ModelServer().start([Model("name")])

The module is imported as any handler. The block runs when the worker initialises, in place of
`init_context`, and the server's `start` only records the models.
"""

import argparse
import ast
import importlib
import inspect
import os
import re
import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Sequence

from ..load_error import LoadError
from ..storage.uris import URI_VARIABLE
from .imports import provide_packages
from .model_handler import ModelHandler

_PACKAGES = (("kserve", "ModelServer"), ("kfserving", "KFServer"))
_SERVER = re.compile(r"\b(?:ModelServer|KFServer)\b")
# The folder of models in KServe's containers.
_MODEL_FOLDER = "/mnt/models"


class ModelSource:
    """The source of the model in an entry module, which may have none.

    `text` is the source at `path`. The model has `name` in URLs; `arguments` are those of its
    script.
    """

    def __init__(self, path: str, text: str, name: str, arguments: Sequence[str]) -> None:
        self._path = path
        self._text = text
        self._name = name
        self._arguments = list(arguments)
        self._models: List[Any] = []

    def prepare(self) -> None:
        """Prepare this process for the import of the module."""
        provide_packages()
        if "model_name" in self._text and not _has_option(self._arguments, "--model_name"):
            self._arguments += ["--model_name", self._name]
        # The packages parse the arguments when they are imported.
        sys.argv = [self._path, *self._arguments]
        for package, _server in _PACKAGES:
            if re.search(r"\b%s\b" % package, self._text):
                importlib.import_module(package)
        self._record_models()

    def _record_models(self) -> None:
        """Replace the start of the servers that this process has imported."""

        def start(_server: Any, models: Any, *_more: Any, **_options: Any) -> None:
            self._models += models

        for package, server in _PACKAGES:
            if package in sys.modules:
                getattr(sys.modules[package], server).start = start

    def find(self, module: ModuleType, name: str) -> Optional[ModelHandler]:
        """Return the handler for the class `name` or for the module's script; None without one."""
        model_class = getattr(module, name, None)
        if isinstance(model_class, type) and hasattr(model_class, "predict"):
            return ModelHandler(self._name, lambda _context: self._create(model_class))
        if model_class is None and (name == "__main__" or _SERVER.search(self._text)):
            return ModelHandler(self._name, lambda _context: self._run_script(module))
        is_transformer = hasattr(module, "preprocess") or hasattr(module, "postprocess")
        if is_transformer and _has_option(self._arguments, "--predictor_host"):
            # Late, since it parses the arguments.
            from .function_transformer import FunctionTransformer

            name = self._values()["name"]
            create = partial(FunctionTransformer, name, module)
            return ModelHandler(self._name, create)
        return None

    def _create(self, model_class: type) -> Any:
        """Return an instance of the class, with arguments by the names of its parameters."""
        # The constructor of KServe's own server publishes the predictor of the arguments.
        package = sys.modules.get("kserve")
        if package is not None:
            package.ModelServer()
        values = self._values()
        arguments = {}
        parameters = list(inspect.signature(model_class).parameters.values())
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if values.get(parameter.name) is not None:
                arguments[parameter.name] = values[parameter.name]
            elif parameter.default is parameter.empty:
                raise LoadError(
                    "%s needs the argument %s: create the model in the module's"
                    ' `if __name__ == "__main__":` block and start a ModelServer with it'
                    % (model_class.__name__, parameter.name)
                )
        return model_class(**arguments)

    def _values(self) -> Dict[str, Any]:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for option in ("--model_name", "--model_dir", "--predictor_host", "--predictor_protocol"):
            parser.add_argument(option)
        values = vars(parser.parse_known_args(sys.argv[1:])[0])
        name = values["model_name"] or self._name
        folder = values["model_dir"] or os.environ.get(URI_VARIABLE) or _MODEL_FOLDER
        values.update(name=name, model_name=name, model_dir=folder)
        values["protocol"] = values["predictor_protocol"]
        return values

    def _run_script(self, module: ModuleType) -> Any:
        """Run the block of the script; return its model."""
        self._record_models()
        file = os.path.basename(self._path)
        block = _main_block(self._text, self._path)
        if block is not None:
            with _argument_errors(file):
                exec(compile(block, self._path, "exec"), module.__dict__)  # noqa: S102 - as Python
        if not self._models:
            raise LoadError(
                "%s started no model server; its `__main__` block has to call"
                " ModelServer().start([model]) or KFServer().start([model])" % file
            )
        if len(self._models) > 1:
            names = ", ".join(str(model.name) for model in self._models)
            raise LoadError(
                "%s starts a server for several models (%s); a function has one" % (file, names)
            )
        return self._models.pop()


@contextmanager
def _argument_errors(file: str) -> Iterator[None]:
    """Raise LoadError where a parser of arguments would print the error and end the process."""

    def refuse(_parser: argparse.ArgumentParser, message: str) -> None:
        raise LoadError(
            "the arguments of %s: %s; they are in spec.runtimeAttributes.arguments"
            % (file, message)
        )

    original = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    except SystemExit as error:
        if error.code:
            raise LoadError("the script %s ended with %s" % (file, error.code)) from None
    finally:
        argparse.ArgumentParser.error = original  # type: ignore[method-assign]


def _has_option(arguments: Sequence[str], name: str) -> bool:
    """Return True if the arguments have an option of that name."""
    return any(argument.partition("=")[0] == name for argument in arguments)


def _main_block(text: str, path: str) -> Optional[ast.Module]:
    """Return the statements of the `if __name__ == "__main__":` blocks, or None without one."""
    tree = ast.parse(text, path)
    blocks = [node for node in tree.body if isinstance(node, ast.If) and _is_main(node.test)]
    if not blocks:
        return None
    tree.body = [statement for block in blocks for statement in block.body]
    return tree


def _is_main(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
        return False
    # Constants are of class Str before Python 3.8.
    sides = [ast.dump(side) for side in (test.left, *test.comparators)]
    return len(sides) == 2 and "__name__" in "".join(sides) and "__main__" in "".join(sides)
