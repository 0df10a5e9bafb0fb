"""Check the handler's module without running it.

The rules cover its syntax, the function that `spec.handler` names, the signatures of the two calls
that Nuclio makes, `init_context(context)` and `handler(context, event)`, and attributes of
`context.user_data` that are read and never set. Nothing is reported if the sources do not show it:
for names that come from elsewhere, if `user_data` itself is passed on, if `context` is passed to a
function from outside the folder, or if a file cannot be parsed.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from fnbuild.function.files import display_path
from fnbuild.function.function_rules import code_folder, is_archive
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import SourceText, quoted
from fnbuild.function.suggestions import closest

_LARGEST_ENTRY_MODULE = 4 << 20
# A module that uses one of these may define any name.
_DYNAMIC_NAMES = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr", "__dict__"})
# A module that starts one of these servers of KServe has a model, and needs no handler.
_MODEL_SERVERS = frozenset({"ModelServer", "KFServer"})
_HANDLER_PATTERN = re.compile(r"([\w-]+(?:\.[\w-]+)*):(\w+)\Z")
_RUNTIME_LABEL = re.compile(r"python:3\.(\d+)")

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def check_handler_code(context: RuleContext) -> None:
    """Check the handler's module without running it.

    The check covers syntax, the existence of the handler, the signatures that Nuclio calls, and
    attributes of `user_data` that nothing sets.
    """
    handler = _HANDLER_PATTERN.match(context.function.spec.handler)
    code = _read_module(context, handler[1]) if handler else None
    if handler is None or code is None:
        return
    name, data = code
    source = SourceText(data.decode("utf-8", "replace"), name, context.report)
    tree = _parse_module(context, source, data)
    if tree is None:
        return
    folder = code_folder(context)
    if is_archive(folder):
        return
    module = _ModuleNames(tree)
    _check_handler(context, source, module, handler[2])
    _check_signature(source, module, "init_context", ("context",))
    if folder is not None:
        check_user_data(source, tree, folder)


def _read_module(context: RuleContext, module: str) -> tuple[str, bytes] | None:
    """Return the code of the handler's module and its name, None if it cannot be read here."""
    build = context.function.spec.build
    if build.function_source_code:
        elsewhere = build.code_entry_type not in ("", "sourceCode")
        if elsewhere or not context.function.spec.runtime.startswith("python"):
            return None
        try:
            return "functionSourceCode", build.decode_source_code()
        except ValueError:
            return None  # reported by another rule
    path = _module_file(context, module)
    try:
        if path is None or path.stat().st_size > _LARGEST_ENTRY_MODULE:
            return None
        return display_path(path), path.read_bytes()
    except OSError:
        return None  # reported by staging


def _module_file(context: RuleContext, module: str) -> Path | None:
    """Return the file of the handler's module, or None if it is not in the function's folder."""
    folder = code_folder(context)
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


def _parse_module(context: RuleContext, source: SourceText, data: bytes) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            # Warnings of the compiler concern style, and are repeated when the code runs.
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except SyntaxError as error:
        _report_syntax_error(context, source, error)
    except (ValueError, RecursionError, MemoryError) as error:
        source.error("python-syntax", f"this is not Python: {error}", source.span(0, 0))
    return None


def _report_syntax_error(context: RuleContext, source: SourceText, error: SyntaxError) -> None:
    row = min(max((error.lineno or 1) - 1, 0), len(source.lines) - 1)
    column = min(max((error.offset or 1) - 1, 0), len(source.lines[row]))
    message = f"this is not Python: {error.msg}"
    label = _RUNTIME_LABEL.match(context.function.spec.runtime)
    minor = int(label[1]) if label else sys.version_info.minor
    keyword = re.search(r"\b(async|await)\b", source.lines[row])
    if minor > sys.version_info.minor or (minor < 7 and keyword):
        # The code may be valid in that version of Python.
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        hint = f"checked with Python {own}; it may be valid in {context.function.spec.runtime}"
        source.warning("python-syntax", message, source.span(row, column), hint)
    else:
        source.error("python-syntax", message, source.span(row, column))


def _check_handler(
    context: RuleContext, source: SourceText, module: _ModuleNames, name: str
) -> None:
    if name in module.names:
        _check_signature(source, module, name, ("context", "event"))
    elif not module.dynamic:
        word = closest(name, module.functions, 0.5)
        message = f"there is no {quoted(name)} in {source.file}"
        hint = f"did you mean {word}?" if word else None
        context.error("handler-function", message, ("spec", "handler"), hint)


def _check_signature(
    source: SourceText, module: _ModuleNames, name: str, call_arguments: tuple[str, ...]
) -> None:
    """Report a function that does not accept these arguments."""
    definition = module.functions.get(name)
    if definition is None or definition.decorator_list or module.names[name] > 1:
        return
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    keywords = [
        a for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not d
    ]
    enough = len(positional) >= len(call_arguments) or arguments.vararg is not None
    if enough and required <= len(call_arguments) and not keywords:
        return
    call = f"{name}({', '.join(call_arguments)})"
    message = f"{name} is called as {call}, and does not accept these arguments"
    row, line = definition.lineno - 1, source.lines[definition.lineno - 1]
    column = max(line.find(name, definition.col_offset), 0)
    span = source.span(row, column, row, column + len(name))
    source.error("handler-signature", message, span)


class _ModuleNames:
    """The names that a module binds, with the number of bindings, and the functions it defines."""

    def __init__(self, tree: ast.Module):
        self.names: dict[str, int] = {}
        self.functions: dict[str, _FunctionNode] = {}
        for node in _same_scope(tree.body):
            if isinstance(node, _FunctionNode):
                self.functions[node.name] = node
            for name in _bound_names(node):
                self.names[name] = self.names.get(name, 0) + 1
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                self.names.update((name, self.names.get(name, 0) + 1) for name in node.names)
        self.dynamic = "__getattr__" in self.names or any(_is_dynamic(n) for n in ast.walk(tree))


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr in _DYNAMIC_NAMES | _MODEL_SERVERS
    return isinstance(node, ast.Name) and node.id in _DYNAMIC_NAMES | _MODEL_SERVERS


def _same_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes and their descendants in the same scope."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _FunctionNode | ast.ClassDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def _bound_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _FunctionNode | ast.ClassDef):
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


_USER_DATA = "user_data"
_LARGEST_MODULE = 1 << 20
_MAX_FILES = 200
_ENTRY_POINTS = ("handler", "init_context")
_ATTRIBUTE_ERRORS = frozenset({"AttributeError", "Exception", "BaseException"})


def check_user_data(source: SourceText, tree: ast.Module, folder: Path) -> None:
    """Add a warning for each attribute of user_data that `tree` reads and the folder never sets."""
    entry = _UserDataUses(tree)
    missing = entry.reads.keys() - entry.writes
    if not missing or entry.escapes:
        return
    try:
        files = [path for _, path in zip(range(_MAX_FILES), folder.rglob("*.py"), strict=False)]
        modules = {path.relative_to(folder).parts[0].removesuffix(".py") for path in files}
        if len(files) == _MAX_FILES or entry.passes_context_outside(modules):
            return
        others = [_UserDataUses(_parse_file(path)) for path in files]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    if any(other.escapes for other in others):
        return
    written = entry.writes.union(*(other.writes for other in others))
    for name in sorted(missing - written):
        _report_unset(source, entry.reads[name], name, written)


def _report_unset(source: SourceText, node: ast.Attribute, name: str, written: set[str]) -> None:
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


def _parse_file(path: Path) -> ast.Module:
    if path.stat().st_size > _LARGEST_MODULE:
        raise ValueError(f"{path} is too large to be read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes())


class _UserDataUses:
    """The uses of `user_data` in one module.

    `reads` has the first unguarded read of each attribute, `writes` the attributes that are set.
    `escapes` is True if user_data is used in any other way.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.reads: dict[str, ast.Attribute] = {}
        self.writes: set[str] = set()
        self.escapes = False
        self._tree = tree
        guarded = set(_nodes_guarded_by_try(tree))
        accessed = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_user_data(node.value):
                accessed.add(node.value)
                if not isinstance(node.ctx, ast.Load):
                    self.writes.add(node.attr)
                elif node.attr.startswith("__"):
                    self.escapes = True  # __dict__ can set any attribute
                elif node not in guarded:
                    self._add_read(node)
        uses = {node for node in ast.walk(tree) if _is_user_data(node)}
        self.escapes = self.escapes or bool(uses - accessed)

    def _add_read(self, node: ast.Attribute) -> None:
        first = self.reads.get(node.attr)
        if first is None or (node.lineno, node.col_offset) < (first.lineno, first.col_offset):
            self.reads[node.attr] = node

    def passes_context_outside(self, modules: set[str]) -> bool:
        """Return True if a call passes `context` to code outside of this module and the others."""
        if _may_leak_context(self._tree, modules):
            return True
        parameters = set(_context_names(self._tree))
        local = set(_local_names(self._tree, modules))
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _root_name(node.func) not in local:
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                if any(isinstance(a, ast.Name) and a.id in parameters for a in arguments):
                    return True
        return False


def _is_user_data(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == _USER_DATA


def _nodes_guarded_by_try(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes inside of a `try` that handles a missing attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_missing(h) for h in node.handlers):
            for statement in node.body:
                yield from ast.walk(statement)


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & _ATTRIBUTE_ERRORS)


def _may_leak_context(tree: ast.Module, modules: set[str]) -> bool:
    """Return True if code outside the folder may get the context without a call."""
    names = {"context"}
    clear: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, _FunctionNode) and node.name in _ENTRY_POINTS:
            names.update(argument.arg for argument in node.args.args[:1])
            if node.decorator_list:
                return True
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = {alias.asname or alias.name for alias in node.names}
            outside = (node.module or "").partition(".")[0] not in modules
            if outside and not imported.isdisjoint(("*", *_ENTRY_POINTS)):
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
        if isinstance(node, _FunctionNode) and node.args.args:
            yield node.args.args[0].arg


def _local_names(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Yield the module's functions and classes, and the names it imports from these modules."""
    for node in ast.walk(tree):
        if isinstance(node, _FunctionNode | ast.ClassDef):
            # A base class from elsewhere may pass the context on.
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


def _root_name(node: ast.expr) -> str:
    """Return the first name of `a.b.c`, "" if there is none."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
