"""Changes of a handler's module that leave valid what `init_context` has prepared.

Reloading runs the module again, but not `init_context`: the model in `user_data` stays. That is
right only if neither `init_context` nor anything that it uses has changed, and if nothing that it
has prepared lies in the module itself. Whatever cannot be proven from the source restarts the
workers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_INIT = "init_context"
_DYNAMIC = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "compile", "setattr", "getattr", "modules"}
    | {"__import__", "import_module", "__dict__"}
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def keeps_the_model(before: str, after: str) -> bool:
    """Return True if the module may be reloaded without another `init_context`."""
    try:
        new = _Module(after)
    except (SyntaxError, ValueError):
        return True  # it cannot be loaded either way; reloading says why and keeps what runs
    try:
        old = _Module(before)
    except (SyntaxError, ValueError):
        return False
    if old.statements != new.statements or old.ambiguous or new.ambiguous:
        return False
    changed = {
        name for name in {**old.dumps, **new.dumps} if old.dumps.get(name) != new.dumps.get(name)
    }
    return all(module.is_independent_of(changed) for module in (old, new))


class _Module:
    """The top level of a module: its functions by name, and everything else."""

    def __init__(self, source: str):
        body = ast.parse(source).body
        functions = [node for node in body if isinstance(node, _Function)]
        rest = [node for node in body if not isinstance(node, _Function)]
        self.functions = {node.name: node for node in functions}
        self.ambiguous = len(self.functions) != len(functions)
        self.dumps = {name: ast.dump(node) for name, node in self.functions.items()}
        self.statements = [ast.dump(node) for node in rest if not _is_text(node)]
        self._state = {name for node in rest for name in _state_of(node)}

    def is_independent_of(self, changed: set[str]) -> bool:
        """Return True if `init_context` uses none of these functions and no state of the module."""
        seen: set[str] = set()
        waiting = [_INIT]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in changed or name in self._state:
                return False
            function = self.functions.get(name)
            if function is None:
                continue
            if function.decorator_list or not self._is_plain(function):
                return False
            waiting += [word for word in _words(function) if self._knows(word)]
        return True

    def _knows(self, word: str) -> bool:
        return word in self.functions or word in self._state

    def _is_plain(self, function: _Function) -> bool:
        """Return True if the function changes nothing in the module, and looks nothing up there."""
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                return False
            stores = isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(
                node.ctx, ast.Load
            )
            if stores and _base(node) in self.functions:
                return False
        return _DYNAMIC.isdisjoint(_words(function))


def _words(function: _Function) -> Iterator[str]:
    """Every word by which a function could refer to something of its module."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _base(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.stmt) -> bool:
    """Return True for a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _state_of(node: ast.stmt) -> Iterator[str]:
    """Names of the module that reloading makes anew: all but imports and constants."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif not (isinstance(node, ast.Assign | ast.AnnAssign) and _is_constant(node.value)):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif isinstance(inner, _Function | ast.ClassDef):
                yield inner.name


def _is_constant(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_constant(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _is_constant(node.operand)
    return isinstance(node, ast.Constant)
