"""The findings of a check. Findings of one rule at corresponding places are one finding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fnbuild.cvat.reply_report import ReplyDiagnostic, encodable, json_excerpt
from fnbuild.cvat.rules import RULES
from fnbuild.errors import Diagnostic, Severity, Span

_INDEX = re.compile(r"\[\d+\]")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MAX_EXCERPT_LIST = 8


@dataclass(slots=True)
class CheckFinding:
    """A violated rule. `cases` are the names of the requests in whose replies it was found.

    `path` and `value` are those of the first reply; `count` is the number of places in all replies.
    `span` is the place in function.yaml.
    """

    rule: str
    severity: Severity
    path: str
    message: str
    effect: str
    remedy: str
    value: str = ""
    cases: list[str] = field(default_factory=list)
    count: int = 1
    span: Span | None = None

    @property
    def place(self) -> str:
        """The file and line, or the path in the reply."""
        return str(self.span) if self.span else self.path


@dataclass(slots=True)
class FindingCollector:
    """Collects the findings of a check in the order of their first occurrence."""

    _findings: dict[tuple[str, str], CheckFinding] = field(default_factory=dict)

    @property
    def findings(self) -> list[CheckFinding]:
        return list(self._findings.values())

    def add_reply(self, case: str, diagnostics: Iterable[ReplyDiagnostic], reply: Any) -> None:
        for diagnostic in diagnostics:
            finding = self.add(case, diagnostic.rule, diagnostic.path, diagnostic.message)
            if finding.count == 1:
                finding.value = excerpt(reply, diagnostic.path)
                finding.remedy = diagnostic.hint or finding.remedy

    def add(self, case: str, rule: str, path: str, message: str) -> CheckFinding:
        """Add a finding, or count it if there is one at a corresponding place."""
        key = rule, _INDEX.sub("[]", path)
        existing = self._findings.get(key)
        if existing is None:
            entry = RULES[rule]
            self._findings[key] = CheckFinding(
                rule, entry.severity, path, message, entry.effect, entry.remedy, cases=[case]
            )
            return self._findings[key]
        existing.count += 1
        if case not in existing.cases:
            existing.cases.append(case)
        return existing

    def add_diagnostic(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic of function.yaml, whose rules are those of `fnbuild validate`."""
        span = diagnostic.span
        path = f"{span.line}:{span.column}" if span else diagnostic.message
        finding = CheckFinding(
            diagnostic.rule,
            diagnostic.severity,
            "metadata.annotations" if diagnostic.rule.startswith("cvat-") else "",
            diagnostic.message,
            "",
            diagnostic.hint or "",
            (diagnostic.excerpt or "").strip(),
            ["function.yaml"],
            span=span,
        )
        self._findings.setdefault((diagnostic.rule, path), finding)


def excerpt(reply: Any, path: str) -> str:
    """Return the value at a path of a reply as shortened JSON; "" if there is none."""
    value = reply
    for name, index in _STEP.findall(path):
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(value, list) and len(value) > _MAX_EXCERPT_LIST:
        # A mask has millions of numbers.
        return f"{json_excerpt(value[:_MAX_EXCERPT_LIST])[:-1]}, … {len(value)} items]"
    if isinstance(value, dict):
        return encodable("{" + ", ".join(list(map(str, value))[:_MAX_EXCERPT_LIST]) + "}")
    return json_excerpt(value)
