"""A function's folder for tests of the configuration."""

from pathlib import Path

from fnbuild.errors import Diagnostic, Report
from fnbuild.function.reader import LoadedFunction, check_function


class Folder:
    """A function's folder to write configurations into."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "function.yaml"
        (path / "main.py").write_text("def handler(context, event):\n    return 'ok'\n")

    def check(self, text: str | bytes, **options: object) -> tuple[LoadedFunction | None, Report]:
        """Return the reader's result for this function.yaml."""
        self.config.write_bytes(text.encode() if isinstance(text, str) else text)
        return check_function(self.path, **options)  # type: ignore[arg-type]

    def good(self, text: str | bytes, **options: object) -> LoadedFunction:
        loaded, report = self.check(text, **options)
        assert loaded is not None, report.render()
        return loaded

    def findings(self, text: str | bytes, **options: object) -> list[Diagnostic]:
        return list(self.check(text, **options)[1])

    def findings_now(self) -> list[Diagnostic]:
        """Return the findings about the file as it is."""
        return list(check_function(self.path)[1])

    def only(self, text: str | bytes, **options: object) -> Diagnostic:
        """Return the single finding about this function.yaml."""
        findings = self.findings(text, **options)
        assert len(findings) == 1, (
            "\n".join(finding.render() for finding in findings) or "nothing found"
        )
        return findings[0]


def at(finding: Diagnostic) -> tuple[int, int]:
    """Line and column of a finding."""
    assert finding.span is not None, finding.render()
    return finding.span.line, finding.span.column


GOOD = """\
metadata:
  name: fn
spec:
  runtime: python:3.9
  handler: main:handler
"""
