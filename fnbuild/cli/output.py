"""Results on stdout: nuctl's tables, JSON and YAML.

Tables look like nuctl's (pkg/renderer): upper-case header, columns separated by `|`, no border.
One item is printed as an object, many as a list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from fnbuild.function.yaml_writer import as_yaml

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FORMAT_ALIASES = {"text": "table"}
_STATE_COLOURS = {
    "ready": "green",
    "active": "green",
    "ok": "green",
    "unhealthy": "red",
    "error": "red",
    "failed": "red",
    "failure": "red",
    "warning": "yellow",
    "skipped": "cyan",
    "imported": "yellow",
    "stopped": "yellow",
    "standby": "yellow",
    "building": "cyan",
}


def output_option(
    *more: str, default: str = "table", formats: Sequence[str] = ("table", "wide", "json", "yaml")
) -> Callable[[Decorated], Decorated]:
    """Return the option `-o`. nuctl calls the format `table` `text`."""
    choices = [*formats, *more]
    if "table" in choices and "text" not in choices:
        choices.append("text")
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices, case_sensitive=False),
        default=default,
        show_default=True,
        callback=lambda _ctx, _param, value: (
            _FORMAT_ALIASES.get(value, value) if "table" in choices else value
        ),
        help="Output format.",
    )


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format aligned columns. Line breaks in cells become blanks."""
    cells = [[_format_cell(value) for value in row] for row in rows]
    widths = [
        max(len(title), *(len(row[index]) for row in cells)) if cells else len(title)
        for index, title in enumerate(header)
    ]
    lines = [_format_row([title.upper() for title in header], widths)]
    lines += [_format_row(row, widths, colour=True) for row in cells]
    return "\n".join(lines)


def format_json(value: object) -> str:
    """Format JSON with tabs, as nuctl does."""
    return json.dumps(value, indent="\t", ensure_ascii=False)


def format_flat_json(value: Any, indent: str = "") -> str:
    """Format JSON with two spaces. A list of scalars, such as points, takes one line."""
    if isinstance(value, dict) and value:
        opening, closing = "{}"
        items = [
            f"{_compact_json(str(key))}: {format_flat_json(item, indent + '  ')}"
            for key, item in value.items()
        ]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        opening, closing = "[]"
        items = [format_flat_json(item, indent + "  ") for item in value]
    else:
        return _compact_json(value)
    inside = f",\n{indent}  ".join(items)
    return f"{opening}\n{indent}  {inside}\n{indent}{closing}"


def _compact_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def escape_control_characters(text: str) -> str:
    """Escape characters that control a terminal, such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape_character(char) for char in text)


def _escape_character(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def print_documents(values: Sequence[object]) -> None:
    """Print YAML documents."""
    click.echo("\n---\n".join(as_yaml(value) for value in values))


def print_values(values: Sequence[object], output: str) -> None:
    """Print a single value as an object, several as a list, in JSON or YAML."""
    print_value(values[0] if len(values) == 1 else list(values), output)


def print_value(value: object, output: str) -> None:
    """Print one value as JSON or YAML."""
    click.echo(format_json(value) if output == "json" else as_yaml(value))


def _format_row(cells: Sequence[str], widths: Sequence[int], *, colour: bool = False) -> str:
    last = len(cells) - 1
    padded = [
        cell if index == last else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    if colour:
        padded = [
            click.style(text, fg=_STATE_COLOURS[cell]) if cell in _STATE_COLOURS else text
            for cell, text in zip(cells, padded, strict=True)
        ]
    return " | ".join(padded).rstrip()


def _format_cell(value: object) -> str:
    text = "" if value is None else str(value)
    return escape_control_characters(" ".join(text.split("\n")).strip().replace("\t", " "))
