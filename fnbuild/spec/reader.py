"""Reads a function's configuration: the file, then what stands in the source, defaults and rules.

`check` finds everything that is wrong and raises nothing; `load` raises one error that holds it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.errors import ConfigError, Diagnostic, Report
from fnbuild.spec import code_rules, rules, variant
from fnbuild.spec.decode import Decoder
from fnbuild.spec.inline import read_inline
from fnbuild.spec.locate import Located, display, locate, report_missing
from fnbuild.spec.merge import merge
from fnbuild.spec.nodes import from_value
from fnbuild.spec.source import MAX_FINDINGS, Source, decode, has_room, read_source
from fnbuild.spec.subject import Subject
from fnbuild.spec.syntax import read_tree
from fnbuild.spec.types import Function


@dataclass(frozen=True, slots=True)
class Loaded:
    """A function as it will run, and where it came from.

    `config_path` is None for a single source file and for a folder described by flags alone;
    `source_file` is set when the path was one .py file. `text` is the configuration as written.
    """

    function: Function
    report: Report
    folder: Path
    config_path: Path | None
    source_file: Path | None
    text: str


def load(  # noqa: PLR0913 - one keyword for each thing a person can give
    path: Path,
    *,
    config_file: Path | None = None,
    overrides: Function | None = None,
    strict: bool = False,
    variant: str | None = None,
    base: Function | None = None,
) -> Loaded:
    """The function at a path: a folder, a .yaml file or a .py file; `overrides` come from flags.

    `variant` names an overlay that goes before the file; `base` lies below everything. Raises
    ConfigError whose report holds every finding.
    """
    loaded, report = check(
        path,
        config_file=config_file,
        overrides=overrides,
        strict=strict,
        variant=variant,
        base=base,
    )
    if loaded is None:
        raise failure(report, display(path))
    return loaded


def check(  # noqa: PLR0913 - one keyword for each thing a person can give
    path: Path,
    *,
    config_file: Path | None = None,
    overrides: Function | None = None,
    strict: bool = False,
    code: bool = False,
    variant: str | None = None,
    base: Function | None = None,
) -> tuple[Loaded | None, Report]:
    """As `load`, without raising: no function when the report holds an error.

    With `code` the handler's module is looked into as well, without being run.
    """
    report = Report()
    located = locate(path, config_file, report)
    if located is None:
        return None, report
    reading = _Reading(located, report, strict, variant)
    loaded = reading.run(overrides, base, look_into_code=code)
    _finish(report)
    return (None if report.errors else loaded), report


def check_text(
    data: bytes, file: str, *, strict: bool = False, code: Path | None = None
) -> tuple[Function | None, Report]:
    """Check the text of a configuration file, like `check`, without reading the file system.

    `data` is the file's content, `file` its name in messages; `code` is the folder of the handler's
    module, which is checked as well if it is set, as is inline source. In spite of errors the
    result has a function with its defaults, unless the file cannot be read at all.
    """
    report = Report()
    reading = _Reading(Located(Path(), None, None), report, strict, None)
    read = reading.text_of(decode(data, file, report))
    function = None
    if read is not None and (inline := reading.inline(read)) is not None:
        subject = reading.completed(merge(read, inline), None, code)
        code_rules.entry_module(subject)
        function = subject.function
    _finish(report)
    return function, report


def _finish(report: Report) -> None:
    report.sort()
    if not (has_room(report, "error") and has_room(report, "warning")):
        message = f"there may be more; looking for faults ended after {MAX_FINDINGS} of a kind"
        report.add(Diagnostic("warning", "too-many-findings", message))


def parse(text: str, file: str) -> tuple[Function, Report]:
    """The function in a configuration's text, as written: without defaults and rules."""
    report = Report()
    function, _ = _read_text(decode(text.encode(), file, report), strict=False)
    report.sort()
    return function, report


def from_raw(raw: dict[str, Any], origin: str) -> Function:
    """The function in plain JSON values, as written; `origin` names where they came from.

    Raises ConfigError.
    """
    source = Source("", origin)
    try:
        function = Decoder(source).read(Function, from_value(raw))
    except ValueError as error:
        source.error("too-deep", f"{origin}: {error}", None)
        raise failure(source.report, origin) from None
    if source.report.errors:
        raise failure(source.report, origin)
    assert isinstance(function, Function)
    return function


def failure(report: Report, name: str) -> ConfigError:
    """The error of a report that holds some."""
    errors = report.errors
    if len(errors) == 1:
        return ConfigError(f"{errors[0].message}", report, hint=errors[0].hint)
    return ConfigError(f"the configuration of {name} has {len(errors)} errors", report)


def _read_text(source: Source | None, *, strict: bool) -> tuple[Function, Decoder | None]:
    if source is None:
        return Function(), None
    tree = read_tree(source)
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


class _Reading:
    """One run of `check` over located files."""

    def __init__(self, located: Located, report: Report, strict: bool, variant: str | None):
        self.located = located
        self.report = report
        self.strict = strict
        self.variant = variant
        self.layers: list[Decoder] = []
        self.text = ""

    def run(
        self, overrides: Function | None, base: Function | None, *, look_into_code: bool
    ) -> Loaded | None:
        located = self.located
        described = located.config or located.source or (overrides and overrides.spec.runtime)
        if not described:
            report_missing(located.folder, self.report)
            return None
        read = self._file()
        if read is None:
            return None
        inline = self.inline(merge(overrides, read) if overrides is not None else read)
        if inline is None:
            return None
        written = self._varied(merge(read, inline))
        if written is None:
            return None
        if base is not None:
            written = merge(written, base)
        if overrides is not None:
            written = merge(overrides, written)
        subject = self.completed(written, overrides, located.source or located.folder)
        if look_into_code:
            code_rules.entry_module(subject)
        function = subject.function
        return Loaded(
            function, self.report, located.folder, located.config, located.source, self.text
        )

    def completed(
        self, written: Function, overrides: Function | None, code: Path | None
    ) -> Subject:
        """The function with its defaults, after all rules; `code` is its folder or source file."""
        function = rules.complete(written, code)
        subject = Subject(function, written, self.report, self.layers, overrides, code)
        rules.apply(subject)
        return subject

    def _file(self) -> Function | None:
        """What the configuration file says; None when it cannot be read at all."""
        if self.located.config is None:
            return Function()
        name = display(self.located.config)
        return self.text_of(read_source(self.located.config, name, self.report))

    def text_of(self, source: Source | None) -> Function | None:
        """What a configuration's text says; None when it cannot be read at all."""
        function, decoder = _read_text(source, strict=self.strict)
        if decoder is None or source is None:
            return None
        self.layers.append(decoder)
        self.text = source.text
        return function

    def _varied(self, read: Function) -> Function | None:
        """The function in its variant; None when the report says why there is none."""
        if self.variant is None:
            return read
        path = variant.find(self.variant, self.located.folder, self.report)
        if path is None:
            return None
        source = read_source(path, display(path), self.report)
        overlay, decoder = _read_text(source, strict=self.strict)
        if decoder is None:
            return None
        made, trigger = variant.laid_over(overlay, read)
        if trigger is not None:
            variant.rename_places(decoder, overlay, trigger)
        self.layers.insert(0, decoder)
        return made

    def inline(self, written: Function) -> Function | None:
        """What the source code says about itself; None when that cannot be read."""
        if written.spec.build.function_source_code:
            name, text = "functionSourceCode", _decoded(written.spec.build.function_source_code)
        elif self.located.source is not None:
            name = display(self.located.source)
            try:
                text = self.located.source.read_bytes().decode("utf-8", "replace")
            except OSError as error:
                message = f"{name} cannot be read: {error.strerror}"
                self.report.add(Diagnostic("error", "unreadable", message))
                return None
        else:
            return Function()
        before = len(self.report.errors)
        function, decoder = read_inline(text, name, self.report, strict=self.strict)
        if decoder is not None:
            self.layers.append(decoder)
        elif len(self.report.errors) > before:
            return None
        return function


def _decoded(code: str) -> str:
    try:
        return base64.b64decode("".join(code.split())).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        # Not base64: a rule says so.
        return ""
