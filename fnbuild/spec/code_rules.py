"""What can be known of the handler's module without running it.

Its syntax, whether it has the function that `spec.handler` names, and whether Nuclio's two calls,
`init_context(context)` and `handler(context, event)`, fit. What a module does when it is imported
is not guessed: where names come from elsewhere, nothing is said.
"""

from __future__ import annotations

import ast
import base64
import binascii
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from fnbuild.spec import user_data_rules
from fnbuild.spec.function_rules import code_folder
from fnbuild.spec.hints import closest
from fnbuild.spec.locate import display
from fnbuild.spec.source import Source, shown
from fnbuild.spec.subject import Subject

_LARGEST_BYTES = 4 << 20
# Whoever uses one of these may define any name.
_DYNAMIC = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr", "__dict__"})
_HANDLER = re.compile(r"([\w-]+(?:\.[\w-]+)*):(\w+)\Z")
_LABEL = re.compile(r"python:3\.(\d+)")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def entry_module(subject: Subject) -> None:
    """The handler's module is Python, and has functions that can be called as Nuclio calls them."""
    found = _HANDLER.match(subject.function.spec.handler)
    code = _code(subject, found[1]) if found else None
    if found is None or code is None:
        return
    name, data = code
    source = Source(data.decode("utf-8", "replace"), name, subject.report)
    tree = _parsed(subject, source, data)
    if tree is None:
        return
    module = _Module(tree)
    _handler(subject, source, module, found[2])
    _signature(source, module, "init_context", ("context",))
    folder = code_folder(subject)
    if folder is not None:
        user_data_rules.unset_attributes(source, tree, folder)


def _code(subject: Subject, module: str) -> tuple[str, bytes] | None:
    """Return the code of the handler's module and its name, None if it cannot be read here."""
    build = subject.function.spec.build
    if build.function_source_code:
        elsewhere = build.code_entry_type not in ("", "sourceCode")
        if elsewhere or not subject.function.spec.runtime.startswith("python"):
            return None
        try:
            data = base64.b64decode("".join(build.function_source_code.split()), validate=True)
        except (binascii.Error, ValueError):
            return None  # another rule says so
        return "functionSourceCode", data
    path = _file(subject, module)
    try:
        if path is None or path.stat().st_size > _LARGEST_BYTES:
            return None
        return display(path), path.read_bytes()
    except OSError:
        return None  # staging says why


def _file(subject: Subject, module: str) -> Path | None:
    """The file of the handler's module, where it is one of the function's folder."""
    folder = code_folder(subject)
    if folder is None:
        return None
    base = folder.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        try:
            if path.is_file():
                return path
        except OSError:
            return None
    return None


def _parsed(subject: Subject, source: Source, data: bytes) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            # Warnings of the compiler are about style here, and come again when the code runs.
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except SyntaxError as error:
        _syntax(subject, source, error)
    except (ValueError, RecursionError, MemoryError) as error:
        source.error("python-syntax", f"this is not Python: {error}", source.span(0, 0))
    return None


def _syntax(subject: Subject, source: Source, error: SyntaxError) -> None:
    row = min(max((error.lineno or 1) - 1, 0), len(source.lines) - 1)
    column = min(max((error.offset or 1) - 1, 0), len(source.lines[row]))
    message = f"this is not Python: {error.msg}"
    label = _LABEL.match(subject.function.spec.runtime)
    minor = int(label[1]) if label else sys.version_info.minor
    keyword = re.search(r"\b(async|await)\b", source.lines[row])
    if minor > sys.version_info.minor or (minor < 7 and keyword):
        # It may be that Python's syntax, which this one does not know.
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        hint = f"read with Python {own}; {subject.function.spec.runtime} may take it"
        source.warning("python-syntax", message, source.span(row, column), hint)
    else:
        source.error("python-syntax", message, source.span(row, column))


def _handler(subject: Subject, source: Source, module: _Module, name: str) -> None:
    if name in module.names:
        _signature(source, module, name, ("context", "event"))
    elif not module.dynamic:
        word = closest(name, module.functions, 0.5)
        message = f"there is no {shown(name)} in {source.file}"
        hint = f"did you mean {word}?" if word else None
        subject.error("handler-function", message, ("spec", "handler"), hint)


def _signature(source: Source, module: _Module, name: str, given: tuple[str, ...]) -> None:
    """Report a function that cannot be called with these arguments."""
    definition = module.functions.get(name)
    if definition is None or definition.decorator_list or module.names[name] > 1:
        return
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    keywords = [
        a for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not d
    ]
    enough = len(positional) >= len(given) or arguments.vararg is not None
    if enough and required <= len(given) and not keywords:
        return
    message = f"{name} is called as {name}({', '.join(given)}), which it does not take"
    row, line = definition.lineno - 1, source.lines[definition.lineno - 1]
    column = max(line.find(name, definition.col_offset), 0)
    span = source.span(row, column, row, column + len(name))
    source.error("handler-signature", message, span)


class _Module:
    """Names that a module binds, how often each, and the functions it defines."""

    def __init__(self, tree: ast.Module):
        self.names: dict[str, int] = {}
        self.functions: dict[str, _Function] = {}
        for node in _level(tree.body):
            if isinstance(node, _Function):
                self.functions[node.name] = node
            for name in _bound(node):
                self.names[name] = self.names.get(name, 0) + 1
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                self.names.update((name, self.names.get(name, 0) + 1) for name in node.names)
        self.dynamic = "__getattr__" in self.names or any(_is_dynamic(n) for n in ast.walk(tree))


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr in _DYNAMIC
    return isinstance(node, ast.Name) and node.id in _DYNAMIC


def _level(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes, and those in them that belong to the same scope."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _Function | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _Function | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
