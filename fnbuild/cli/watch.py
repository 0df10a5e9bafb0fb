"""Watch the folder of a running function, and decide how to load a change.

Reloading runs the module again, but not `init_context`: the model in `user_data` stays. That is
correct only if neither `init_context` nor anything it uses has changed, and if nothing it has
prepared is stored in the module itself. If the source does not prove that, the workers restart.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

POLL_INTERVAL = 0.1
"""Seconds between two scans."""

_SETTLE_TIME = 0.02

SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".mypy_cache", ".ruff_cache"}
    | {".pytest_cache", ".idea", ".vscode", ".ipynb_checkpoints", "node_modules"}
)
# Temporary files of editors.
_TEMPORARY_SUFFIXES = (".pyc", "~", ".swp", ".swx", ".tmp", ".bak")

FolderSnapshot = dict[str, tuple[int, int, int]]


class FolderWatcher:
    """Detects changed files below a folder by polling, which works on every file system."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._snapshot = self._scan()

    def changed(self) -> set[Path]:
        """Return the files that are new, deleted or different. Waits for the end of a save."""
        import time

        now = self._scan()
        if now == self._snapshot:
            return set()
        while True:
            time.sleep(_SETTLE_TIME)
            later = self._scan()
            if later == now:
                break
            now = later
        names = {name for name in now.keys() | self._snapshot.keys() if self._differs(name, now)}
        self._snapshot = now
        return {self._folder / name for name in names}

    def _differs(self, name: str, now: FolderSnapshot) -> bool:
        return now.get(name) != self._snapshot.get(name)

    def _scan(self) -> FolderSnapshot:
        return dict(_scan_folder(str(self._folder), ""))


def _scan_folder(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        # Deleted during the scan: its files count as deleted.
        return
    for entry in entries:
        if entry.name in SKIPPED_FOLDERS or entry.name.endswith(_TEMPORARY_SUFFIXES):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _scan_folder(entry.path, f"{prefix}{entry.name}/")
            else:
                status = entry.stat()
                mark = (status.st_mtime_ns, status.st_size, status.st_ino)
                yield prefix + entry.name, mark
        except OSError:
            continue


_INIT_FUNCTION = "init_context"
_DYNAMIC_NAMES = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "compile", "setattr", "getattr", "modules"}
    | {"__import__", "import_module", "__dict__"}
)

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def can_keep_model(before: str, after: str) -> bool:
    """Return True if the module may be reloaded without another `init_context`."""
    try:
        new = _ModuleSource(after)
    except (SyntaxError, ValueError):
        return True  # it cannot be loaded either way; reloading says why and keeps what runs
    try:
        old = _ModuleSource(before)
    except (SyntaxError, ValueError):
        return False
    if old.statements != new.statements or old.ambiguous or new.ambiguous:
        return False
    changed = {
        name for name in {**old.dumps, **new.dumps} if old.dumps.get(name) != new.dumps.get(name)
    }
    return all(module.is_independent_of(changed) for module in (old, new))


class _ModuleSource:
    """The top level of a module: functions by name, and other statements."""

    def __init__(self, source: str):
        body = ast.parse(source).body
        functions = [node for node in body if isinstance(node, _FunctionNode)]
        rest = [node for node in body if not isinstance(node, _FunctionNode)]
        self.functions = {node.name: node for node in functions}
        self.ambiguous = len(self.functions) != len(functions)
        self.dumps = {name: ast.dump(node) for name, node in self.functions.items()}
        self.statements = [ast.dump(node) for node in rest if not _is_docstring(node)]
        self._state = {name for node in rest for name in _state_names(node)}

    def is_independent_of(self, changed: set[str]) -> bool:
        """Return True if `init_context` uses none of these functions and no state of the module."""
        visited: set[str] = set()
        waiting = [_INIT_FUNCTION]
        while waiting:
            name = waiting.pop()
            if name in visited:
                continue
            visited.add(name)
            if name in changed or name in self._state:
                return False
            function = self.functions.get(name)
            if function is None:
                continue
            if function.decorator_list or not self._is_plain(function):
                return False
            waiting += filter(self._is_defined, _referenced_names(function))
        return True

    def _is_defined(self, name: str) -> bool:
        return name in self.functions or name in self._state

    def _is_plain(self, function: _FunctionNode) -> bool:
        """Return True if the function changes nothing in the module, and looks nothing up there."""
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                return False
            stores = isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(
                node.ctx, ast.Load
            )
            if stores and _base_name(node) in self.functions:
                return False
        return _DYNAMIC_NAMES.isdisjoint(_referenced_names(function))


def _referenced_names(function: _FunctionNode) -> Iterator[str]:
    """Yield every name by which a function may refer to something in its module."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _base_name(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_docstring(node: ast.stmt) -> bool:
    """Return True for a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _state_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that reloading creates again: all but imports and constants."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif not (isinstance(node, ast.Assign | ast.AnnAssign) and _is_constant(node.value)):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif isinstance(inner, _FunctionNode | ast.ClassDef):
                yield inner.name


def _is_constant(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_constant(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _is_constant(node.operand)
    return isinstance(node, ast.Constant)
