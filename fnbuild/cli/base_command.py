"""Click commands with aliases and global options, and groups that import commands on use.

A group stores the import path and the help line of each command, so that `fnbuild --help` does not
import the commands.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from fnbuild.cli.session import GLOBAL_OPTIONS

INTERRUPTED = 128 + signal.SIGINT
"""The exit status of a program that Ctrl-C interrupted, as in shells."""


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command of a group: import path (`module:attribute`), line of help, aliases, section."""

    target: str
    help: str
    aliases: tuple[str, ...]
    section: str

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


def command_entries(
    commands: Mapping[str, tuple[str, ...]], section: str = "Commands"
) -> dict[str, CommandEntry]:
    """Return the entries of a group: `NAME: (MODULE:FUNCTION, line of help, aliases…)`."""
    return {
        name: CommandEntry(f"fnbuild.cli.{target}", text, tuple(aliases), section)
        for name, (target, text, *aliases) in commands.items()
    }


class InterruptError(Exception):
    """Ctrl-C inside a command. Click prints a line for KeyboardInterrupt, but not for this."""


# The boolean values of Go's flags (strconv.ParseBool).
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class _CommandWithGlobalOptions(click.Command):
    """A command that accepts the global options and lists them in a section of their own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *GLOBAL_OPTIONS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                (shared if param in GLOBAL_OPTIONS else own).append(record)
        for title, records in (("Options", own), ("Global options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Command(_CommandWithGlobalOptions):
    """A command whose switches accept a value after `=`, as in nuctl: `--disable=false`.

    `is_switched_off` distinguishes a switch set to false from an absent one.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name: param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and param.is_flag and not param.secondary_opts
            for name in param.opts
        }
        kept, switched_off = _resolve_switches(args, switches, ctx)
        rest = super().parse_args(ctx, kept)
        for param in switched_off:
            assert param.name is not None
            ctx.set_parameter_source(param.name, click.core.ParameterSource.COMMANDLINE)
        return rest


def _resolve_switches(
    args: list[str], switches: Mapping[str, click.Option], ctx: click.Context
) -> tuple[list[str], list[click.Option]]:
    """Return the arguments with `--switch=true` as `--switch`, and the switches set to false."""
    kept: list[str] = []
    off: list[click.Option] = []
    for index, argument in enumerate(args):
        if argument == "--":
            return kept + args[index:], off
        name, equals, value = argument.partition("=")
        param = switches.get(name)
        if param is None or (equals and value not in _BOOLEANS):
            if param is not None:
                raise click.BadParameter(f'"{value}" is neither true nor false', ctx, param)
            kept.append(argument)
            continue
        # The last value of a switch wins.
        off = [switch for switch in off if switch is not param]
        kept = [item for item in kept if switches.get(item) is not param]
        if equals and not _BOOLEANS[value]:
            off.append(param)
        else:
            kept.append(name)
    return kept, off


def is_switched_off(ctx: click.Context, name: str) -> bool:
    """Return True if the switch was given as `--name=false`, rather than left out."""
    source = ctx.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE and not ctx.params[name]


class LazyGroup(_CommandWithGlobalOptions, click.Group):
    """A group whose commands are imported on use."""

    def __init__(self, *args: Any, entries: Mapping[str, CommandEntry], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.entries = entries
        self._names = {
            alias: name for name, entry in self.entries.items() for alias in (name, *entry.aliases)
        }

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptError from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.entries)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        name = self._names.get(cmd_name)
        if name is None:
            return None
        command = self.entries[name].load()
        command.name = name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            self._fail_unknown(ctx, args[0])
        return (command.name if command else None), command, args[1:]

    def _fail_unknown(self, ctx: click.Context, name: str) -> None:
        if name.startswith("-"):
            raise click.NoSuchOption(name, ctx=ctx)
        from difflib import get_close_matches

        close = get_close_matches(name, self._names, 1)
        likely = f' Did you mean "{close[0]}"?' if close else ""
        raise click.UsageError(f'unknown command "{name}".{likely}', ctx=ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        _CommandWithGlobalOptions.format_options(self, ctx, formatter)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.entries.items():
            label = f"{name} ({', '.join(entry.aliases)})" if entry.aliases else name
            sections.setdefault(entry.section, []).append((label, entry.help))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)
