"""Report attributes of `context.user_data` that the handler's module reads and no code sets.

The check reads the sources of the function's folder without running them. It reports nothing if the
sources do not show which attributes are set: if `user_data` itself is passed on, if `context` is
passed to a function from outside the folder, or if a file cannot be parsed.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from fnbuild.spec.hints import closest
from fnbuild.spec.source import Source

_USER_DATA = "user_data"
_LARGEST_BYTES = 1 << 20
_MOST_FILES = 200
_ENTRIES = ("handler", "init_context")
_CATCHES_MISSING = frozenset({"AttributeError", "Exception", "BaseException"})


def unset_attributes(source: Source, tree: ast.Module, folder: Path) -> None:
    """Add a warning for each attribute of user_data that `tree` reads and the folder never sets."""
    entry = _UserData(tree)
    missing = entry.reads.keys() - entry.writes
    if not missing or entry.handed_on:
        return
    try:
        files = [path for _, path in zip(range(_MOST_FILES), folder.rglob("*.py"), strict=False)]
        modules = {path.relative_to(folder).parts[0].removesuffix(".py") for path in files}
        if len(files) == _MOST_FILES or entry.context_leaves(modules):
            return
        others = [_UserData(_parse(path)) for path in files]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    if any(other.handed_on for other in others):
        return
    written = entry.writes.union(*(other.writes for other in others))
    for name in sorted(missing - written):
        _report(source, entry.reads[name], name, written)


def _report(source: Source, node: ast.Attribute, name: str, written: set[str]) -> None:
    likely = closest(name, written, 0.6)
    remedy = f"init_context sets it: context.{_USER_DATA}.{name} = …"
    hint = f"did you mean {likely}?" if likely else remedy
    row = (node.end_lineno or node.lineno) - 1
    line = source.lines[row]
    # Columns of the syntax tree count bytes.
    end = len(line.encode()[: node.end_col_offset].decode(errors="replace"))
    span = source.span(row, max(end - len(name), 0), row, end)
    message = f"the handler reads context.{_USER_DATA}.{name}, which is never set"
    source.warning("user-data", message, span, hint)


def _parse(path: Path) -> ast.Module:
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"{path} is too large to be read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes())


class _UserData:
    """The uses of `user_data` in one module.

    `reads` has the first unguarded read of each attribute, `writes` the attributes that are set;
    `handed_on` is True if user_data is used in any other way.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.reads: dict[str, ast.Attribute] = {}
        self.writes: set[str] = set()
        self.handed_on = False
        self._tree = tree
        guarded = set(_guarded(tree))
        accessed = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_user_data(node.value):
                accessed.add(node.value)
                if not isinstance(node.ctx, ast.Load):
                    self.writes.add(node.attr)
                elif node.attr.startswith("__"):
                    self.handed_on = True  # __dict__ can set anything
                elif node not in guarded:
                    self._add_read(node)
        uses = {node for node in ast.walk(tree) if _is_user_data(node)}
        self.handed_on = self.handed_on or bool(uses - accessed)

    def _add_read(self, node: ast.Attribute) -> None:
        first = self.reads.get(node.attr)
        if first is None or (node.lineno, node.col_offset) < (first.lineno, first.col_offset):
            self.reads[node.attr] = node

    def context_leaves(self, modules: set[str]) -> bool:
        """Return True if a call passes `context` to code outside of this module and the others."""
        if _is_opaque(self._tree, modules):
            return True
        parameters = set(_context_names(self._tree))
        local = set(_local_names(self._tree, modules))
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _root(node.func) not in local:
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                if any(isinstance(a, ast.Name) and a.id in parameters for a in arguments):
                    return True
        return False


def _is_user_data(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == _USER_DATA


def _guarded(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes in which the code handles a missing attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_missing(h) for h in node.handlers):
            for statement in node.body:
                yield from ast.walk(statement)


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & _CATCHES_MISSING)


def _is_opaque(tree: ast.Module, modules: set[str]) -> bool:
    """Return True if code outside the folder may get the context without a call."""
    names = {"context"}
    clear: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _ENTRIES:
            names.update(argument.arg for argument in node.args.args[:1])
            if node.decorator_list:
                return True
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = {alias.asname or alias.name for alias in node.names}
            outside = (node.module or "").partition(".")[0] not in modules
            if outside and not imported.isdisjoint(("*", *_ENTRIES)):
                return True
        elif isinstance(node, ast.Attribute):
            clear.add(node.value)
        elif isinstance(node, ast.Call):
            clear.update(node.args, (keyword.value for keyword in node.keywords))
        elif isinstance(node, ast.Name) and node.id in ("exec", "eval"):
            return True
    return any(
        isinstance(node, ast.Name) and node.id in names and node not in clear
        for node in ast.walk(tree)
    )


def _context_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the context in the module's functions: their first parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.args:
            yield node.args.args[0].arg


def _local_names(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Yield the module's functions and classes, and the names it imports from these modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # What a base class does with the context is not in sight.
            if not getattr(node, "bases", None):
                yield node.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if top in modules:
                    yield alias.asname or top
        elif isinstance(node, ast.ImportFrom):
            top = (node.module or "").partition(".")[0]
            names = node.names if node.level or top in modules else []
            yield from (alias.asname or alias.name for alias in names)


def _root(node: ast.expr) -> str:
    """Return the first name of `a.b.c`, "" if there is none."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
