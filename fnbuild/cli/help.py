"""`fnbuild version`, `fnbuild help` and `fnbuild completion`."""

from __future__ import annotations

import click

from fnbuild.cli.base_command import Command, LazyGroup


@click.command(cls=Command)
def version() -> None:
    """Show the versions of fnbuild and its environment."""
    import os
    import platform

    from fnbuild import __version__

    click.echo("Client version:")
    click.echo(f"Label: {__version__}")
    click.echo(f"OS: {os.uname().sysname.lower()}")
    click.echo(f"Arch: {platform.machine()}")
    click.echo(f"Python: {platform.python_version()}")


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Show help for a command: `fnbuild help get functions`."""
    context = ctx.find_root()
    for name in names:
        group = context.command
        command = group.get_command(context, name) if isinstance(group, LazyGroup) else None
        if command is None:
            raise click.UsageError(f'no command "{" ".join(names)}"', ctx=context)
        context = click.Context(command, info_name=command.name, parent=context)
    click.echo(context.command.get_help(context))


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print shell code that completes fnbuild's commands, flags and function names.

    \b
    bash:  eval "$(fnbuild completion bash)"
    zsh:   eval "$(fnbuild completion zsh)"
    fish:  fnbuild completion fish | source
    """
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    click.echo(
        completion_class(ctx.find_root().command, {}, "fnbuild", "_FNBUILD_COMPLETE").source()
    )
