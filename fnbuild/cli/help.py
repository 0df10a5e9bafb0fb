"""The program about itself: version, help, shell completion."""

from __future__ import annotations

import click

from fnbuild.cli.base_command import Command, LazyGroup


@click.command(cls=Command)
def version() -> None:
    """Show the version of fnbuild and of what it runs on."""
    import os
    import platform

    from fnbuild import __version__

    click.echo("Client version:")
    click.echo(f"Label: {__version__}")
    click.echo(f"OS: {os.uname().sysname.lower()}")
    click.echo(f"Arch: {platform.machine()}")
    click.echo(f"Python: {platform.python_version()}")


@click.command(cls=Command)
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show help for a command: `fnbuild help get functions`."""
    place = ctx.find_root()
    for word in words:
        group = place.command
        found = group.get_command(place, word) if isinstance(group, LazyGroup) else None
        if found is None:
            raise click.UsageError(f'no command "{" ".join(words)}"', ctx=place)
        place = click.Context(found, info_name=found.name, parent=place)
    click.echo(place.command.get_help(place))


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print shell code that completes fnbuild's commands, flags and function names.

    \b
    bash:  eval "$(fnbuild completion bash)"
    zsh:   eval "$(fnbuild completion zsh)"
    fish:  fnbuild completion fish | source
    """
    from click.shell_completion import get_completion_class

    from fnbuild.cli.app import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "fnbuild", "_FNBUILD_COMPLETE").source())
