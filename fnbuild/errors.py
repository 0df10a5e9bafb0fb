"""The errors of fnbuild, and diagnostics that refer to places in files.

Every error that users see is a `FnbuildError`: a message with the failure and its cause, a hint
with the remedy, the exit status of the command line and the HTTP status of the dashboard. A
`Report` holds several `Diagnostic` values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Severity = Literal["error", "warning"]

_EXCERPT_WIDTH = 120
"""The maximum number of characters of an excerpt."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text file. Lines and columns count from 1; the end column is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error or warning about a place in a file. `excerpt` is the first line of the span."""

    severity: Severity
    rule: str
    message: str
    span: Span | None = None
    excerpt: str | None = None
    hint: str | None = None

    def render(self) -> str:
        """Format the diagnostic: place, severity, rule, message, and the excerpt with a marker."""
        place = f"{self.span}: " if self.span else ""
        lines = [f"{place}{self.severity}[{self.rule}]: {self.message}"]
        if self.span and self.excerpt is not None:
            lines.extend(_marked_excerpt(self.span, self.excerpt))
        if self.hint:
            lines.append(f"        {self.hint}")
        return "\n".join(lines)


def _marked_excerpt(span: Span, excerpt: str) -> tuple[str, str]:
    """Return the excerpt, shortened around the place, and the line with the marker."""
    start = span.column - 1
    stop = span.end_column - 1 if span.end_line == span.line else len(excerpt)
    cut = max(0, start - _EXCERPT_WIDTH // 2) if len(excerpt) > _EXCERPT_WIDTH else 0
    shown = excerpt[cut : cut + _EXCERPT_WIDTH]
    # Tabs are repeated above the marker, so that it is aligned.
    lead = "".join(c if c == "\t" else " " for c in shown[: start - cut])
    marker = "^" * max(1, min(stop - cut, len(shown)) - (start - cut))
    if cut:
        shown, lead = f"…{shown}", f" {lead}"
    if cut + _EXCERPT_WIDTH < len(excerpt):
        shown += "…"
    return f"{span.line:>5} | {shown}", f"{' ' * 5} | {lead}{marker}"


@dataclass(slots=True)
class Report:
    """Diagnostics in the order of their places."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)

    def __len__(self) -> int:
        return len(self.diagnostics)

    def add(self, diagnostic: Diagnostic) -> None:
        self.diagnostics.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics.extend(diagnostics)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.diagnostics if d.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [d for d in self.diagnostics if d.severity == "warning"]

    def sort(self) -> None:
        self.diagnostics.sort(
            key=lambda d: (d.span is None, d.span or Span("", 0, 0, 0, 0), d.severity)
        )

    def render(self) -> str:
        return "\n".join(d.render() for d in self.diagnostics)


class FnbuildError(Exception):
    """The base class of all errors that users see.

    `detail` is output of user code, shown in full before the message: the handler's traceback or
    the last lines of a failed command. `hint` is the remedy.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None, detail: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    @property
    def line(self) -> str:
        """The message and the hint in one line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(FnbuildError):
    """The command line or the request is invalid."""

    code = "usage"
    exit_status = 2
    http_status = 400


class InputError(FnbuildError):
    """An input file cannot be read or written, or has invalid content."""

    code = "input"
    http_status = 400


class ConfigError(FnbuildError):
    """A function's configuration has errors; `report` contains all of them."""

    code = "config"
    http_status = 400

    def __init__(self, message: str, report: Report, *, hint: str | None = None):
        super().__init__(message, hint=hint)
        self.report = report


class NotFoundError(FnbuildError):
    """The named function, project, revision or file does not exist."""

    code = "not-found"
    http_status = 404


class ConflictError(FnbuildError):
    """Another process changes the same object, or the object exists already."""

    code = "conflict"
    http_status = 409


class BusyError(ConflictError):
    """Another process is changing the same object. Nothing was changed; a retry may succeed."""


class PreconditionError(FnbuildError):
    """The present state does not allow the change (Nuclio responds with 412)."""

    code = "precondition"
    http_status = 412


class StoreError(FnbuildError):
    """The data directory could not be read or written."""

    code = "store"


class BuildError(FnbuildError):
    """The build of an environment or image failed; `detail` is the output of the failed step."""

    code = "build"


class NotReadyError(FnbuildError):
    """A revision did not become ready; `detail` is the handler's traceback or last output."""

    code = "not-ready"
    http_status = 503


class PlatformError(FnbuildError):
    """The platform could not carry out the request."""

    code = "platform"


class UnavailableError(FnbuildError):
    """The platform, or a part of it, is not reachable or not installed."""

    code = "unavailable"
    http_status = 503


class UnauthorizedError(UnavailableError):
    """The service does not accept the credentials: they are missing, wrong or expired."""

    code = "unauthorized"


class ForbiddenError(FnbuildError):
    """The user lacks a permission. `grant` tells how an administrator can grant it."""

    code = "forbidden"
    http_status = 403

    def __init__(
        self, message: str, *, grant: str = "", hint: str | None = None, detail: str | None = None
    ):
        if grant:
            hint = f"{grant}; `fnbuild doctor rights` lists all missing permissions"
        super().__init__(message, hint=hint, detail=detail)
        self.grant = grant
