"""`fnbuild run`: run a function in the foreground, from its folder, and reload changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import colour_override, note, warn
from fnbuild.cli.deploy_output import prepare_and_warn
from fnbuild.cli.logs import log_format_option, record_formatter
from fnbuild.cli.options import protocols_option, variant_option
from fnbuild.cli.session import Session, WholeNumber, pass_session

if TYPE_CHECKING:
    from fnbuild.cli.image_request import ReplyPreview
    from fnbuild.deploy.pipeline import DeployRequest, PreparedFunction
    from fnbuild.function.reader import LoadedFunction
    from fnbuild.function.types import Function
    from fnbuild.platforms import LogRecord
    from fnbuild.platforms.process.foreground import ForegroundConfig, ForegroundProcessor

_FILE = click.Path(path_type=Path, dir_okay=False)
_ENVIRONMENT_FILES = ("requirements.txt",)


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[PATH]")
@click.option("-p", "--path", type=click.Path(path_type=Path), metavar="PATH", hidden=True)
@click.option(
    "-f", "--file", "config_file", type=click.Path(path_type=Path), help="Configuration file."
)
@variant_option
@click.option("--watch", is_flag=True, help="Reload changed files.")
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=0,
    help="Port. [default: that of the file, or a free one]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Variable. Repeatable.")
@click.option("--triggers", metavar="JSON", help="Triggers by name, merged over the file's.")
@protocols_option
@click.option("--image", type=_FILE, help="Send this image as CVAT does, after every change.")
@click.option("--draw", type=_FILE, metavar="OUT", help="Draw the reply on the image.")
@log_format_option
@pass_session
def run(session: Session, /, folder: Path | None, **flags: Any) -> None:
    """Run the function in PATH (default: the current folder) in the foreground until Ctrl-C.

    With --watch, a change of the handler alone replaces the code and keeps `user_data`, so the
    model stays loaded. A change of `init_context`, its dependencies or another file restarts the
    workers; a change of function.yaml restarts everything.

    `fnbuild invoke NAME` calls the function, and `fnbuild get functions` and the dashboard list
    it. With --image and --draw, the image is sent at the start and after every change.
    """
    from fnbuild.builder import environment
    from fnbuild.cli.image_request import reply_preview
    from fnbuild.cli.overrides import function_overrides
    from fnbuild.deploy.pipeline import DeployRequest
    from fnbuild.platforms.process.foreground import ForegroundProcessor

    preview = reply_preview(flags["image"], flags["draw"])
    request = DeployRequest(
        path=folder or flags["path"] or Path(),
        config_file=flags["config_file"],
        namespace=session.namespace,
        # --image is a picture here, not the name of the function's image.
        overrides=function_overrides({**flags, "image": None}),
        variant=flags["variant"],
    )
    # No record protects the environment from a concurrent prune.
    with environment.keep_environments():
        loaded, config = read_function(request)
        format_record = record_formatter(flags["output"])

        def print_record(record: LogRecord) -> None:
            click.echo(format_record(record), color=colour_override())

        with ForegroundProcessor(config, flags["host"], flags["port"], print_record) as processor:
            foreground_run = _ForegroundRun(processor, request, loaded, preview)
            try:
                foreground_run.serve(watch=flags["watch"] or preview is not None)
            except KeyboardInterrupt:
                note("stopping")


class _ForegroundRun:
    """A running function and the folder that it was loaded from."""

    def __init__(
        self,
        processor: ForegroundProcessor,
        request: DeployRequest,
        loaded: LoadedFunction,
        preview: ReplyPreview | None,
    ):
        self._processor = processor
        self._request = request
        self._loaded = loaded
        self._preview = preview
        self._source = _read_source(entry_file(loaded))

    def serve(self, *, watch: bool) -> None:
        """Start the processor, and load changes until it ends."""
        from fnbuild.cli.console import print_error
        from fnbuild.cli.watch import POLL_INTERVAL, FolderWatcher
        from fnbuild.errors import FnbuildError, PlatformError

        processor = self._processor
        watcher = FolderWatcher(self._loaded.folder) if watch else None
        processor.start()
        try:
            self._report_ready()
            self._show_preview()
        except FnbuildError as error:
            if watcher is None:
                raise
            print_error(error)
            note("waiting for a change")
        while processor.ended is None or watcher:
            time.sleep(POLL_INTERVAL)
            changed = watcher.changed() if watcher else set()
            if self._preview is not None:
                changed = self._preview.without_drawing(changed)
            if not changed:
                continue
            try:
                self._load(changed)
                self._show_preview()
            except FnbuildError as error:
                print_error(error)
        raise PlatformError(f"the processor ended with exit status {processor.ended}")

    def _load(self, changed: set[Path]) -> None:
        """Load the changed files into the running processor."""
        loaded, processor = self._loaded, self._processor
        names = ", ".join(sorted(str(path.relative_to(loaded.folder)) for path in changed)[:3])
        configuring = {loaded.config_path, *(loaded.folder / name for name in _ENVIRONMENT_FILES)}
        source = _read_source(entry_file(loaded))
        if processor.ended is not None or changed & {*configuring, loaded.source_file}:
            fresh, config = read_function(self._request, loaded.function)
            is_same = (config, fresh.text) == (processor.config, loaded.text)
            if processor.ended is not None or not is_same:
                note(f"changed: {names}")
                source = _read_source(entry_file(fresh))
                processor.replace(config)
                self._loaded = fresh
                self._report_ready()
                self._source = source
                return
            # The files were saved without a change.
            changed -= configuring
        if changed:
            note(f"changed: {names}")
            self._reload(changed, source)

    def _reload(self, changed: set[Path], source: str) -> None:
        from fnbuild.cli.watch import can_keep_model

        only_module = changed == {entry_file(self._loaded)}
        keeps = only_module and can_keep_model(self._source, source)
        seconds = self._processor.reload(restart=not keeps)
        self._source = source
        if keeps:
            note(f"reloaded in {seconds * 1000:.0f} ms, and the model was kept")
        else:
            reason = ": init_context or what it uses has changed" if only_module else ""
            note(f"restarted the workers in {seconds * 1000:.0f} ms{reason}")

    def _report_ready(self) -> None:
        seconds = self._processor.wait_ready()
        name, url = self._loaded.function.metadata.name, self._processor.url
        grpc = f", gRPC on port {self._processor.grpc_port}" if self._processor.grpc_port else ""
        note(f"{name} is ready at {url}{grpc} after {seconds:.1f} s (Ctrl-C stops it)")

    def _show_preview(self) -> None:
        if self._preview is not None:
            self._preview.show(self._loaded.function, self._processor.url)


def _read_source(path: Path) -> str:
    """Return the source of a module, or "" if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def entry_file(loaded: LoadedFunction) -> Path:
    """Return the file of the handler, such as pkg/sub.py for `pkg.sub:handler`."""
    if loaded.source_file is not None:
        return loaded.source_file
    module = loaded.function.spec.handler.partition(":")[0].removesuffix(".py")
    path = loaded.folder / Path(*module.split("."))
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


def read_function(
    request: DeployRequest, running: Function | None = None
) -> tuple[LoadedFunction, ForegroundConfig]:
    """Read the function, and print the warnings of its configuration.

    `running` is the one that runs already, whose token it keeps.
    """
    return prepare_to_run(prepare_and_warn(request), running)


def prepare_to_run(
    prepared: PreparedFunction, running: Function | None = None
) -> tuple[LoadedFunction, ForegroundConfig]:
    """Create the environment of a function, and return the configuration of its processor."""
    from dataclasses import replace

    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy.access import with_credentials
    from fnbuild.names import DEFAULT_PLATFORM
    from fnbuild.platforms import Deployment, lookup
    from fnbuild.platforms.process.foreground import prepare_processor

    current = None if running is None else Deployment(running, DEFAULT_PLATFORM, "ready")
    function = with_credentials(lookup(DEFAULT_PLATFORM), prepared.function, current)
    loaded = replace(prepared.loaded, function=function)
    with ProgressDisplay() as progress:
        config = prepare_processor(loaded, progress)
    for text in config.warnings:
        warn(text)
    return loaded, config
