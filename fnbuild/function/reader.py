"""Read a function's configuration: the file, the block in the source code, defaults and rules.

`check_function` reports everything that is wrong and raises nothing; `load_function` raises one
error with the whole report.

As in Nuclio (pkg/processor/build/inlineparser/parser.go), the `@nuclio.configure` block of a Python
file is a run of comment lines whose text is YAML with the key `function.yaml`. The block may also
end with the file.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from fnbuild.errors import ConfigError, Diagnostic, Report
from fnbuild.function import code_rules, overlays, rules
from fnbuild.function.decoder import Decoder
from fnbuild.function.files import FunctionFiles, display_path, locate_files, report_missing_config
from fnbuild.function.merge import merge_functions
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import (
    MAX_DIAGNOSTICS,
    SourceText,
    decode_source,
    has_room,
    read_source,
)
from fnbuild.function.torchserve_settings import resolve_python
from fnbuild.function.types import Function
from fnbuild.function.yaml_nodes import node_from_value
from fnbuild.function.yaml_parser import parse_yaml

_BLOCK_START = re.compile(r"#@nuclio\.(\w+)")
_BLOCK_KEY = "function.yaml"


def find_configure_block(text: str, file: str, report: Report) -> SourceText | None:
    """Return the text of the first configure block, with positions in the surrounding file."""
    lines = text.split("\n")
    for row, line in enumerate(lines):
        start = _BLOCK_START.match("".join(line.split()))
        if not start or start.group(1) != "configure":
            continue
        comments = takewhile(lambda comment: comment.startswith("#"), lines[row + 1 :])
        block = "\n".join(comment[2:].rstrip("\r") for comment in comments)
        return SourceText(block, file, report, line_offset=row + 1, prefix="# ")
    return None


def _decode_inline(
    text: str, file: str, report: Report, *, strict: bool = False
) -> tuple[Function, Decoder | None]:
    """Return the function that a source file configures; an empty one if it has no block."""
    source = find_configure_block(text, file, report)
    if source is None:
        return Function(), None
    tree = parse_yaml(source)
    if tree is None:
        return Function(), None
    root, source = tree
    if root.kind == "map":
        for key, value in root.pairs:
            if key.text == _BLOCK_KEY:
                decoder = Decoder(source, strict=strict)
                return decoder.read(Function, value), decoder
    message = f"the configure block has no key {_BLOCK_KEY}, so it has no effect"
    span = root.span(source)
    source.warning("inline", message, span, f"put everything below a line `# {_BLOCK_KEY}:`")
    return Function(), None


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A function with its defaults, and the files it came from.

    `config_path` is None for a single source file and for a folder that flags alone describe.
    `source_file` is set if the path was a .py file. `text` is the configuration as written.
    """

    function: Function
    report: Report
    folder: Path
    config_path: Path | None
    source_file: Path | None
    text: str


def load_function(  # noqa: PLR0913 - independent options
    path: Path,
    *,
    config_file: Path | None = None,
    overrides: Function | None = None,
    strict: bool = False,
    variant: str | None = None,
    base: Function | None = None,
) -> LoadedFunction:
    """Read and check the function at a path: a folder, a .yaml file or a .py file.

    In order of precedence: `overrides` from flags, the overlay `variant`, the file, and `base`.
    Raises ConfigError, whose report has every diagnostic.
    """
    loaded, report = check_function(
        path,
        config_file=config_file,
        overrides=overrides,
        strict=strict,
        variant=variant,
        base=base,
    )
    if loaded is None:
        raise config_error(report, display_path(path))
    return loaded


def check_function(  # noqa: PLR0913 - independent options
    path: Path,
    *,
    config_file: Path | None = None,
    overrides: Function | None = None,
    strict: bool = False,
    code: bool = False,
    variant: str | None = None,
    base: Function | None = None,
) -> tuple[LoadedFunction | None, Report]:
    """Read and check a function like `load_function`; return None for it if there are errors.

    With `code`, the handler's module is checked as well, without running it.
    """
    report = Report()
    located = locate_files(path, config_file, report)
    if located is None:
        return None, report
    reading = _FunctionReader(located, report, strict, variant)
    loaded = reading.run(overrides, base, look_into_code=code)
    _finish_report(report)
    return (None if report.errors else loaded), report


def check_text(
    data: bytes, file: str, *, code: Path | None = None
) -> tuple[Function | None, Report]:
    """Check the text of a configuration file; return its function in spite of errors.

    The function has its defaults; it is None only if the file cannot be read at all. `data` is the
    file's content, `file` its name in messages. `code` is the folder of the handler's module; the
    module and inline source are checked as well. The rest of the file system is not looked at.
    """
    report = Report()
    reading = _FunctionReader(FunctionFiles(Path(), None, None), report, False, None)
    read = reading.decode_text(decode_source(data, file, report))
    function = None
    if read is not None and (inline := reading.read_inline_config(read)) is not None:
        context = reading.check_with_defaults(merge_functions(read, inline), None, code)
        code_rules.check_handler_code(context)
        function = context.function
    _finish_report(report)
    return function, report


def _finish_report(report: Report) -> None:
    report.sort()
    if not (has_room(report, "error") and has_room(report, "warning")):
        message = f"there may be more; the check stops after {MAX_DIAGNOSTICS} errors or warnings"
        report.add(Diagnostic("warning", "too-many-findings", message))


def function_from_text(text: str, file: str) -> tuple[Function, Report]:
    """Return the function in a configuration's text, without defaults and rules, and the report.

    The function is empty if the text cannot be read.
    """
    report = Report()
    function, _ = _decode_function(decode_source(text.encode(), file, report), strict=False)
    report.sort()
    return function, report


def function_from_dict(raw: dict[str, Any], origin: str) -> Function:
    """Return the function in a JSON object, without defaults and rules. Raises ConfigError.

    `origin` names the source of the object in messages.
    """
    source = SourceText("", origin)
    try:
        function = Decoder(source).read(Function, node_from_value(raw))
    except ValueError as error:
        source.error("too-deep", f"{origin}: {error}", None)
        raise config_error(source.report, origin) from None
    if source.report.errors:
        raise config_error(source.report, origin)
    assert isinstance(function, Function)
    return function


def config_error(report: Report, name: str) -> ConfigError:
    """Return the exception for a report that has errors."""
    errors = report.errors
    if len(errors) == 1:
        return ConfigError(f"{errors[0].message}", report, hint=errors[0].hint)
    return ConfigError(f"the configuration of {name} has {len(errors)} errors", report)


def _decode_function(source: SourceText | None, *, strict: bool) -> tuple[Function, Decoder | None]:
    if source is None:
        return Function(), None
    tree = parse_yaml(source)
    if tree is None:
        return Function(), None
    root, source = tree
    if root.kind != "map":
        message = "a function's configuration is a mapping with `metadata` and `spec`"
        source.error("wrong-type", message, root.span(source))
        return Function(), None
    decoder = Decoder(source, strict=strict)
    function = decoder.read(Function, root)
    return function, decoder


class _FunctionReader:
    """Reads and checks one function."""

    def __init__(self, located: FunctionFiles, report: Report, strict: bool, variant: str | None):
        self.located = located
        self.report = report
        self.strict = strict
        self.variant = variant
        self.layers: list[Decoder] = []
        self.text = ""

    def run(
        self, overrides: Function | None, base: Function | None, *, look_into_code: bool
    ) -> LoadedFunction | None:
        located = self.located
        described = located.config or located.source or (overrides and overrides.spec.runtime)
        if not described:
            report_missing_config(located.folder, self.report)
            return None
        read = self._read_file()
        if read is None:
            return None
        inline = self.read_inline_config(
            merge_functions(overrides, read) if overrides is not None else read
        )
        if inline is None:
            return None
        written = self._apply_variant(merge_functions(read, inline))
        if written is None:
            return None
        if base is not None:
            written = merge_functions(written, base)
        if overrides is not None:
            written = merge_functions(overrides, written)
        context = self.check_with_defaults(written, overrides, located.source or located.folder)
        if look_into_code:
            code_rules.check_handler_code(context)
        resolve_python(context.function, located.folder)
        return LoadedFunction(
            context.function, self.report, located.folder, located.config, located.source, self.text
        )

    def check_with_defaults(
        self, written: Function, overrides: Function | None, code: Path | None
    ) -> RuleContext:
        """Apply the defaults and all rules; `code` is the function's folder or source file."""
        function = rules.with_defaults(written, code)
        context = RuleContext(function, written, self.report, self.layers, overrides, code)
        rules.run_rules(context)
        return context

    def _read_file(self) -> Function | None:
        """Return the function in the configuration file, or None if it cannot be read at all."""
        if self.located.config is None:
            return Function()
        name = display_path(self.located.config)
        return self.decode_text(read_source(self.located.config, name, self.report))

    def decode_text(self, source: SourceText | None) -> Function | None:
        """Return the function in a configuration's text, or None if it cannot be read at all."""
        function, decoder = _decode_function(source, strict=self.strict)
        if decoder is None or source is None:
            return None
        self.layers.append(decoder)
        self.text = source.text
        return function

    def _apply_variant(self, read: Function) -> Function | None:
        """Return the function with its variant applied, or None after reporting an error."""
        if self.variant is None:
            return read
        path = overlays.find_variant(self.variant, self.located.folder, self.report)
        if path is None:
            return None
        source = read_source(path, display_path(path), self.report)
        overlay, decoder = _decode_function(source, strict=self.strict)
        if decoder is None:
            return None
        function, trigger = overlays.apply_overlay(overlay, read)
        if trigger is not None:
            overlays.alias_trigger_paths(decoder, overlay, trigger)
        self.layers.insert(0, decoder)
        return function

    def read_inline_config(self, written: Function) -> Function | None:
        """Return the function that the source code configures, or None if it cannot be read."""
        if code := written.spec.build.function_source_code:
            name, text = "functionSourceCode", _decode_source_code(code)
        elif self.located.source is not None:
            name = display_path(self.located.source)
            try:
                text = self.located.source.read_bytes().decode("utf-8", "replace")
            except OSError as error:
                message = f"{name} cannot be read: {error.strerror}"
                self.report.add(Diagnostic("error", "unreadable", message))
                return None
        else:
            return Function()
        before = len(self.report.errors)
        function, decoder = _decode_inline(text, name, self.report, strict=self.strict)
        if decoder is not None:
            self.layers.append(decoder)
        elif len(self.report.errors) > before:
            return None
        return function


def _decode_source_code(code: str) -> str:
    try:
        return base64.b64decode("".join(code.split())).decode("utf-8", "replace")
    except ValueError:
        # Not base64: reported by a rule.
        return ""
