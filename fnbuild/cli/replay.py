"""`fnbuild replay`: send recorded requests to two functions, and compare their replies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cvat.replay import RecordedRequest, ReplayResult, Sender
    from fnbuild.platforms import Deployment, Platform

_PATH = click.Path(path_type=Path, exists=True)


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.option(
    "--against",
    metavar="REVISION|NAME|FOLDER|URL",
    default="",
    help="The other side. [default: the recorded replies]",
)
@click.option(
    "--requests",
    "source",
    type=_PATH,
    metavar="FILE|FOLDER",
    help="An exported recording, a picture or a folder of pictures. [default: the recording]",
)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Send only the newest N.")
@click.option(
    "--min-iou",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Matched shapes that are at least so similar are the same.",
)
@click.option(
    "--max-different",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Fail if more requests get different replies.",
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a picture of each difference to this folder.",
)
@output_option()
@pass_session
@click.pass_context
def replay(ctx: click.Context, session: Session, /, name: str, output: str, **flags: Any) -> None:
    """Send recorded requests to a function and to another one, and compare the replies.

    `+` counts shapes that only NAME returns, `-` those that only the other side returns. A REVISION
    runs beside the one that serves until the comparison ends. The exit status is 1 if more
    than --max-different requests get different replies.
    """
    from fnbuild.cvat.difference import draw_differences

    platform = session.connect()
    deployment = platform.deployment(session.namespace, name)
    with ExitStack() as stack:
        requests = stack.enter_context(_requests(platform, session, deployment, flags["source"]))
        requests = requests[-flags["last"] :] if flags["last"] else requests
        results = _compare(session, platform, deployment, requests, flags)
    different = [result for result in results if result.comparison.differs]
    if flags["pictures"] and different:
        written = draw_differences(different, deployment.function, flags["pictures"])
        note(f"{count_text(len(written), 'picture')} in {flags['pictures']}")
    _print(results, output)
    note(f"{len(different)} of {count_text(len(results), 'request')} got different replies")
    if len(different) > flags["max_different"]:
        ctx.exit(1)


def _compare(
    session: Session,
    platform: Platform,
    deployment: Deployment,
    requests: list[RecordedRequest],
    flags: dict[str, Any],
) -> list[ReplayResult]:
    from fnbuild.cvat.replay import replay as compare

    with (
        _other_side(session, platform, deployment, flags["against"]) as before,
        _deployed(platform, deployment) as after,
    ):
        return list(
            compare(requests, before, after.send_again, deployment.function, flags["min_iou"])
        )


@contextmanager
def _requests(
    platform: Platform, session: Session, deployment: Deployment, source: Path | None
) -> Iterator[list[RecordedRequest]]:
    """Provide the requests to send; raise `InputError` if there are none."""
    from fnbuild.cvat.replay import PICTURES, read_requests, requests_of_pictures
    from fnbuild.errors import InputError
    from fnbuild.platforms.recordings import read_archive, read_recording

    with tempfile.TemporaryDirectory(prefix="fnbuild-recording-") as folder:
        if source is None:
            count = read_recording(platform, session.namespace, deployment.name, Path(folder))
            requests = list(read_requests(Path(folder)))
        elif source.is_file() and source.suffix.lower() not in PICTURES:
            count = read_archive(source, Path(folder))
            requests = list(read_requests(Path(folder)))
        else:
            paths = sorted(source.iterdir()) if source.is_dir() else [source]
            pictures = [path for path in paths if path.suffix.lower() in PICTURES]
            requests = list(requests_of_pictures(pictures, deployment.function))
            count = len(requests)
    if len(requests) < count:
        damaged = count_text(count - len(requests), "recorded request")
        warn(f"{damaged} cannot be read and are left out")
    if not requests:
        raise InputError(
            f"there are no requests in {source or f'the recording of {deployment.name}'}",
            hint=f"`fnbuild update function {deployment.name} --record` records the next ones",
        )
    yield requests


@contextmanager
def _deployed(platform: Platform, deployment: Deployment) -> Iterator[Endpoint]:
    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cli.invocation import check_invocable

    with platform.reachable_url(deployment) as url:
        check_invocable(deployment, url, "any")
        yield Endpoint(url, platform.request_headers(deployment))


@contextmanager
def _other_side(
    session: Session, platform: Platform, deployment: Deployment, against: str
) -> Iterator[Sender]:
    """Provide what replies on the other side: a revision, a folder, a URL, or another function."""
    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cli.invoke import check_address
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.cvat.replay import recorded_reply
    from fnbuild.deploy import trials

    folder = Path(against)
    if not against:
        yield recorded_reply
    elif against.startswith(("http://", "https://")):
        check_address("--against", against)
        yield Endpoint(against, {}).send_again
    elif against.isdecimal() or "/" in against or (folder / "function.yaml").is_file():
        with ExitStack() as stack, ProgressDisplay() as progress:
            if against.isdecimal():
                trial = trials.run_revision(platform, deployment, int(against), progress)
            else:
                trial = trials.run_folder(platform, deployment, folder, progress)
            yield Endpoint(*stack.enter_context(trial)).send_again
    else:
        with _deployed(platform, platform.deployment(session.namespace, against)) as other:
            yield other.send_again


def _print(results: list[ReplayResult], output: str) -> None:
    if output in ("json", "yaml"):
        print_value([_value(result) for result in results], output)
        return
    header = ["request", "same", "+", "-", "moved", "worst", "ms", "other ms", "note"]
    click.echo(format_table(header, [_row(result) for result in results]))


def _row(result: ReplayResult) -> list[object]:
    value = _value(result)
    worst = "" if value["worst"] is None else f"{value['worst']:.3f}"
    counts = (value["same"], value["added"], value["removed"], value["moved"])
    times = (f"{value['milliseconds']:.1f}", f"{value['otherMilliseconds']:.1f}")
    return [value["request"], *counts, worst, *times, value["note"]]


def _value(result: ReplayResult) -> dict[str, Any]:
    comparison = result.comparison
    return {
        "request": result.request.name,
        "differs": comparison.differs,
        "same": comparison.same,
        "added": comparison.added,
        "removed": comparison.removed,
        "moved": comparison.moved,
        "worst": comparison.worst,
        "milliseconds": round(result.after.seconds * 1000, 1),
        "otherMilliseconds": round(result.before.seconds * 1000, 1),
        "status": result.after.status,
        "otherStatus": result.before.status,
        "note": comparison.note,
    }
