"""`fnbuild deploy`: read, build, run, and say where the function answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.flags import build_flags, configuration_flags, source_flags
from fnbuild.cli.lazy import Command, switched_off
from fnbuild.cli.names import function_name, project_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, interactive, note, pass_session, warn

if TYPE_CHECKING:
    from fnbuild.deploy import DeployRequest, Prepared
    from fnbuild.platforms import Deployment, Platform, Step
    from fnbuild.spec.types import Function

ENABLE = "`fnbuild update function {} --disable=false` runs it again"


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=function_name)
@source_flags
@click.option(
    "--project-name",
    metavar="NAME",
    shell_complete=project_name,
    help="Project of the function; made when missing.",
)
@output_option("name", "url", default="table")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--strict", is_flag=True, help="Unknown keys are errors.")
@click.option("--force", is_flag=True, help="Deploy although nothing changed.")
@click.option(
    "--overlap", is_flag=True, help="Start the new workers beside the old ones, GPU or not."
)
@click.option(
    "--listen",
    metavar="HOSTS",
    help="Where to listen: loopback, docker, IPv4 addresses. [default: loopback; containers: both]",
)
@build_flags
@configuration_flags
@click.option("--input-image-file", metavar="FILE", help="Image archive to load and deploy.")
@pass_session
@click.pass_context
def deploy(ctx: click.Context, session: Session, /, **flags: Any) -> None:
    """Build and deploy a function, and wait until it is ready.

    Flags win over the file, and the file over the `@nuclio.configure` block in the source. What
    runs already keeps running until the new revision is ready.
    """
    flags["enabled"] = switched_off(ctx, "disable")
    with request_of(session, flags) as request:
        if flags["dry_run"]:
            _show_plan(request, flags["output"])
        else:
            _deploy(session, request, flags["output"])


@contextmanager
def request_of(session: Session, flags: dict[str, Any]) -> Iterator[DeployRequest]:
    """What the flags of deploy and diff ask for.

    Inline source gets a folder of its own. A name without a path is a function that the platform
    has already: its stored configuration lies below the flags, its recorded code is the path.
    """
    from fnbuild.build.sources.open import opened
    from fnbuild.cli.overrides import overrides
    from fnbuild.deploy import DeployRequest

    request = DeployRequest(
        name=flags["name"],
        namespace=session.namespace,
        project=flags.get("project_name"),
        overrides=overrides(flags),
        variant=flags.get("variant"),
        platform=session.platform,
        strict=bool(flags.get("strict")),
        enabled=bool(flags.get("enabled")),
        image=_image(flags),
        options=_options(flags),
    )
    build = request.overrides.spec.build
    with (
        opened(
            flags["path"], build=build, config_file=flags["config_file"], progress=note
        ) as found,
        tempfile.TemporaryDirectory(prefix="fnbuild-source-") as empty,
    ):
        request = replace(request, path=found.path, config_file=found.config_file)
        yield _complete(session, request, Path(empty))


def _complete(session: Session, request: DeployRequest, empty: Path) -> DeployRequest:
    """The request with a path; `empty` is one for what has no folder."""
    from fnbuild.cli.folders import is_function
    from fnbuild.errors import UsageError

    if request.path is not None:
        return request
    if request.image and request.config_file is not None:
        return replace(request, path=request.config_file, config_file=None)
    inline = bool(request.overrides.spec.build.function_source_code)
    if request.name and not inline:
        request = _with_stored(session, request)
        inline = bool(request.overrides.spec.build.function_source_code)
    if request.image:
        return replace(request, path=empty, overrides=_of_image(request))
    if request.path is not None:
        return request
    if inline:
        return replace(request, path=empty)
    if is_function(Path()):
        raise UsageError(
            "there is nothing to deploy: no path was given", hint="`--path .` is this folder"
        )
    return request


def _of_image(request: DeployRequest) -> Function:
    """What flags say of an image's function, which must be enough."""
    from msgspec.structs import replace as changed

    from fnbuild.errors import UsageError

    spec = request.overrides.spec
    if not spec.handler:
        raise UsageError(
            f"{request.image} is to run, and nothing says what its handler is",
            hint="`--handler MODULE:NAME` says it, or `--file FILE` names its function.yaml",
        )
    return changed(request.overrides, spec=changed(spec, runtime=spec.runtime or "python"))


def _with_stored(session: Session, request: DeployRequest) -> DeployRequest:
    from fnbuild.errors import NotFoundError, UsageError
    from fnbuild.spec.merge import merge

    assert request.name is not None
    if request.variant is not None:
        # The stored configuration is one variant already.
        raise UsageError(
            "a variant is one of a function's folder, and no path was given",
            hint="`--path FOLDER` names the folder",
        )
    platform = session.connect()
    try:
        stored = platform.deployment(session.namespace, request.name).function
    except NotFoundError:
        return request
    return replace(
        request,
        path=platform.source(session.namespace, request.name),
        overrides=merge(request.overrides, stored),
    )


@contextmanager
def still_serving(platform: Platform, namespace: str, name: str) -> Iterator[None]:
    """Add to the failure of a build what runs in spite of it; later ones say so themselves."""
    from fnbuild.errors import BuildError, FnbuildError

    try:
        yield
    except BuildError as error:
        with suppress(FnbuildError):
            left = platform.deployment(namespace, name)
            if left.revision and left.replicas[0]:
                serves = f"revision {left.revision} goes on serving"
                error.hint = f"{error.hint}; {serves}" if error.hint else serves
        raise


def say_deployed(made: Deployment, seconds: float | None = None) -> None:
    """The end of a deploy, on stderr: warnings, state, address."""
    from fnbuild.cli.listing import url

    for text in made.warnings:
        warn(text)
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    where = f" at {url(made)}" if url(made) else ""
    note(f"{made.name} is {made.state}{where} (revision {made.revision}{took})")
    if made.state == "standby":
        note(f"it is disabled; {ENABLE.format(made.name)}")


def print_deployed(made: Deployment, output: str) -> None:
    """The result on stdout."""
    from fnbuild.cli.listing import show_functions, url

    if output == "name":
        click.echo(made.name)
    elif output == "url":
        click.echo(url(made))
    else:
        show_functions([made], output, explain=False)


def say_findings(request: DeployRequest) -> Prepared:
    """Read the configuration once more for its warnings, on stderr; its errors are raised."""
    from fnbuild.deploy import prepare

    prepared = prepare(request)
    if prepared.report.warnings:
        note(prepared.report.render())
    return prepared


def _deploy(session: Session, request: DeployRequest, output: str) -> None:
    from fnbuild import deploy as pipeline
    from fnbuild.cli.progress import Progress

    prepared = say_findings(request)
    platform, name = session.connect(), prepared.function.metadata.name
    with (
        Progress(whole=session.verbose) as progress,
        still_serving(platform, session.namespace, name),
    ):
        made = pipeline.deploy(request, progress)
    say_deployed(made, progress.seconds)
    print_deployed(made, output)


def _show_plan(request: DeployRequest, output: str) -> None:
    from fnbuild import deploy as pipeline
    from fnbuild.cli.output import show_value, table

    say_findings(request)
    made = pipeline.plan(request)
    for text in made.warnings:
        warn(text)
    if output in ("json", "yaml"):
        show_value([_step(step) for step in made.steps], output)
    elif output in ("name", "url"):
        click.echo(made.function.metadata.name)
    else:
        rows = [[step.verb, step.target] for step in made.steps]
        click.echo(table(["change", "what"], rows))
    if interactive() and output == "table" and made.changes:
        note("nothing was changed; `fnbuild diff` shows the differences")


def _step(step: Step) -> dict[str, Any]:
    shown: dict[str, Any] = {"verb": step.verb, "target": step.target}
    if step.before is not None and step.before != step.after:
        shown["before"] = step.before
    if step.after is not None:
        shown["after"] = step.after
    return shown


def _image(flags: dict[str, Any]) -> str:
    """The image that the flags name, to be run as it is; an archive is loaded into the engine."""
    from fnbuild.errors import InputError, UsageError

    named, file = flags.get("run_image") or "", flags.get("input_image_file")
    if not file:
        return named
    if named:
        raise UsageError("--run-image and --input-image-file each name the image: give one of them")
    if flags.get("dry_run"):
        raise UsageError(
            "--dry-run changes nothing, and --input-image-file loads an image into the engine",
            hint="load it by hand (`docker load`), and name it: `--run-image NAME`",
        )
    from fnbuild.build.image.engine import choose

    found = choose("docker").load(Path(file))
    if len(found) != 1:
        what = "several images" if found else "no image with a name"
        raise InputError(
            f"{file} holds {what}",
            hint="load it by hand (`docker load`), and give the one to run: `--run-image NAME`",
        )
    note(f"loaded {found[0]} from {file}")
    return found[0]


def _options(flags: dict[str, Any]) -> dict[str, Any]:
    """Only what was asked for: platforms refuse options that they do not know."""
    options = {key: flags.get(key) for key in ("force", "overlap", "listen")}
    return {key: value for key, value in options.items() if value}
