"""`fnbuild run`: a function in the foreground, from its folder, with `--watch` for writing it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.flags import variant_flag
from fnbuild.cli.lazy import Command
from fnbuild.cli.logs import form_option, writer
from fnbuild.cli.session import Session, Whole, note, pass_session, warn

if TYPE_CHECKING:
    from fnbuild.cli.foreground import Foreground, Setting
    from fnbuild.deploy import DeployRequest
    from fnbuild.spec.reader import Loaded

_ENVIRONMENT_FILES = ("requirements.txt",)


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[PATH]")
@click.option("-p", "--path", type=click.Path(path_type=Path), metavar="PATH", hidden=True)
@click.option(
    "-f", "--file", "config_file", type=click.Path(path_type=Path), help="Configuration file."
)
@variant_flag
@click.option("--watch", is_flag=True, help="Load changes while it runs.")
@click.option(
    "--port", type=Whole(0, 65535), default=0, help="Port. [default: the file's, or free]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Variable. Repeatable.")
@click.option("--triggers", metavar="JSON", help="Triggers by name; their values win.")
@form_option
@pass_session
def run(session: Session, /, folder: Path | None, **flags: Any) -> None:
    """Run a function here until Ctrl-C, from its folder (the current one when none is named).

    With --watch a change of the handler's module swaps the code and keeps `user_data`, so the model
    stays loaded; any other change restarts the workers; a change of function.yaml restarts all.
    """
    from fnbuild.build import environment
    from fnbuild.cli import foreground
    from fnbuild.cli.overrides import overrides
    from fnbuild.deploy import DeployRequest

    request = DeployRequest(
        path=folder or flags["path"] or Path(),
        config_file=flags["config_file"],
        namespace=session.namespace,
        overrides=overrides(flags),
        variant=flags["variant"],
    )
    # Nothing records which environment it runs in.
    with environment.kept():
        loaded, setting = _read(request)
        write = writer(flags["output"])
        with foreground.Foreground(setting, flags["host"], flags["port"], write) as processor:
            try:
                processor.start()
                _serve(processor, request, loaded, watch=flags["watch"])
            except KeyboardInterrupt:
                note("stopping")


def _serve(processor: Foreground, request: DeployRequest, loaded: Loaded, *, watch: bool) -> None:
    from fnbuild.cli.failure import tell
    from fnbuild.cli.watching import PERIOD, Watcher
    from fnbuild.errors import FnbuildError, PlatformError

    watcher = Watcher(loaded.folder) if watch else None
    try:
        _say_ready(processor, loaded, processor.wait_ready())
    except FnbuildError as error:
        if watcher is None:
            raise
        tell(error)
        note("waiting for a change")
    while processor.ended is None or watcher:
        time.sleep(PERIOD)
        changed = watcher.changed() if watcher else set()
        if not changed:
            continue
        try:
            loaded = _load_change(processor, request, loaded, changed)
        except FnbuildError as error:
            tell(error)
    raise PlatformError(f"the processor ended with exit status {processor.ended}")


def _load_change(
    processor: Foreground, request: DeployRequest, loaded: Loaded, changed: set[Path]
) -> Loaded:
    """Bring the change into the running processor; the configuration that holds from now on."""
    names = ", ".join(sorted(str(path.relative_to(loaded.folder)) for path in changed)[:3])
    configuring = {loaded.config_path, *(loaded.folder / name for name in _ENVIRONMENT_FILES)}
    if processor.ended is not None or changed & {*configuring, loaded.source_file}:
        fresh, setting = _read(request)
        same = (setting, fresh.text) == (processor.setting, loaded.text)
        if processor.ended is not None or not same:
            note(f"changed: {names}")
            processor.replace(setting)
            _say_ready(processor, fresh, processor.wait_ready())
            return fresh
        # Saved without a change.
        changed -= configuring
    if changed:
        note(f"changed: {names}")
        restart = changed != {entry_module(loaded)}
        seconds = processor.reload(restart=restart)
        what = "restarted the workers" if restart else "reloaded"
        note(f"{what} in {seconds * 1000:.0f} ms")
    return loaded


def entry_module(loaded: Loaded) -> Path:
    """The file with the handler: `main:handler` is main.py, `pkg.sub:handler` is pkg/sub.py."""
    if loaded.source_file is not None:
        return loaded.source_file
    module = loaded.function.spec.handler.partition(":")[0].removesuffix(".py")
    path = loaded.folder / Path(*module.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


def _read(request: DeployRequest) -> tuple[Loaded, Setting]:
    from fnbuild import deploy as pipeline
    from fnbuild.cli import foreground
    from fnbuild.cli.progress import Progress

    prepared = pipeline.prepare(request)
    if prepared.report.warnings:
        note(prepared.report.render())
    with Progress() as progress:
        setting = foreground.prepare(prepared.loaded, progress)
    for text in setting.warnings:
        warn(text)
    return prepared.loaded, setting


def _say_ready(processor: Foreground, loaded: Loaded, seconds: float) -> None:
    name = loaded.function.metadata.name
    note(f"{name} is ready at {processor.url} after {seconds:.1f} s (Ctrl-C stops it)")
