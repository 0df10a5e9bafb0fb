"""`fnbuild invoke`: call a function with nuctl's flags, or with an image as CVAT does.

The reply goes to stdout unchanged. A reply of unknown length is streamed. The status, the log
records and the problems that CVAT would have with the reply go to stderr.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, is_interactive, note, warn
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from fnbuild.cli.image_request import ImageRequest
    from fnbuild.cli.invocation import InvocationReply, InvocationRequest
    from fnbuild.platforms import Deployment, Platform

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_function_name)
@click.option("--url", metavar="URL", help="Call this address instead of the function's.")
@click.option("-b", "--body", metavar="TEXT", help="Request body. [default: stdin, if piped]")
@click.option("-c", "--content-type", metavar="TYPE", help="Content type of the body.")
@click.option(
    "-m",
    "--method",
    type=click.Choice(METHODS, case_sensitive=False),
    help="[default: POST with a body, else GET]",
)
@click.option("-p", "--path", metavar="PATH", default="", help="Path and query of the request.")
@click.option("-d", "--headers", multiple=True, metavar="K=V,…", help="Headers. Repeatable.")
@click.option(
    "-l",
    "--log-level",
    type=click.Choice(["none", "debug", "info", "warn", "error"]),
    default="info",
    show_default=True,
    help="Minimum level of the call's log records to print.",
)
@click.option("-t", "--timeout", metavar="DURATION", default="60s", show_default=True)
@click.option(
    "--via",
    type=click.Choice(["any", "external-ip", "loadbalancer", "domain-name"]),
    default="any",
    show_default=True,
    help="Kind of address to call.",
)
@click.option(
    "--gateway",
    metavar="ADDRESS",
    help="Call through this load balancer or node port, with the host of the function's URL.",
)
@click.option("--external-ips", metavar="IP,…", hidden=True)
@click.option("--no-wake", is_flag=True, help="Fail if the function is asleep.")
@click.option("--skip-tls", is_flag=True, help="Do not verify TLS certificates.")
@click.option("--raise-on-status", is_flag=True, help="Fail if the status is not 2xx.")
@click.option("--image", type=_FILE, help="Send this image as CVAT does.")
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="Minimum confidence of results, from 0 to 1; 0 sends none, as in CVAT.",
)
@click.option("--points", metavar="X,Y …", multiple=True, help="Positive clicks (interactors).")
@click.option("--neg-points", metavar="X,Y …", multiple=True, help="Negative clicks.")
@click.option("--box", metavar="L,T,R,B", multiple=True, help="Box. Repeatable for trackers.")
@click.option("--image1", type=_FILE, help="Second image (re-identification).")
@click.option("--box1", metavar="L,T,R,B", multiple=True, help="Box in the second image.")
@click.option("--max-distance", type=int, help="Maximum distance in pixels (re-identification).")
@click.option("--states", type=_FILE, help="Previous reply of a tracker, to continue from.")
@click.option("--draw", type=_FILE, metavar="OUT", help="Draw the reply on the image.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["raw", "json", "table"]),
    default="raw",
    show_default=True,
    help="raw: the reply unchanged; json: indented; table: its shapes.",
)
@pass_session
@click.pass_context
def invoke(ctx: click.Context, session: Session, /, name: str | None, **flags: Any) -> None:
    """Call a function and print its reply.

    NAME is a deployed function or one that `fnbuild run` serves. --url calls any address; with
    --image, NAME then says which function it is.

    With --image, send the request that CVAT sends to a function of this kind, and fail if CVAT
    would reject the reply. --draw OUT draws its boxes, polygons, masks and skeletons.
    """
    from fnbuild.cli import invocation

    _check_combination(flags)
    platform = session.connect()
    deployment = deployment_to_call(platform, session.namespace, name, flags["url"])
    name, url = deployment.name or flags["url"], flags["url"]
    request = _image_request(deployment, flags)
    url = url or _gateway_url(deployment, flags["gateway"])
    with nullcontext(url) if url else platform.reachable_url(deployment) as target:
        if not url:
            invocation.check_invocable(deployment, target, flags["via"])
        reply = invocation.send_request(
            target,
            _invocation_request(flags, request, needed_headers(platform, deployment, flags["url"])),
            lambda head: _stdout_writer(head, flags),
        )
    _print_status(reply, verbose=session.verbose)
    if reply.streamed is not None:
        if sys.stdout.isatty():
            sys.stdout.buffer.write(b"\n")
            sys.stdout.flush()
    elif not reply.ok:
        _handle_error_status(name, reply, strict=flags["raise_on_status"] or request is not None)
    elif request is None:
        _print_body(reply, flags["output"])
    elif not _print_image_reply(request, reply, flags):
        ctx.exit(1)


def deployment_to_call(
    platform: Platform, namespace: str, name: str | None, url: str | None
) -> Deployment:
    """Return the function to call; without a name if only its address is known."""
    from fnbuild.errors import UsageError
    from fnbuild.function.types import Function
    from fnbuild.platforms import Deployment

    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--url {url}: a URL starts with http:// or https://")
        check_address("--url", url)
    if name is not None:
        return platform.deployment(namespace, name)
    if url is None:
        raise UsageError("Missing argument 'NAME'", hint="`--url URL` calls any address")
    # The annotations of a function determine the request of an image.
    for deployment in platform.deployments(namespace):
        if deployment.url and deployment.url == url.rstrip("/"):
            return deployment
    return Deployment(Function(), platform.name, "ready")


def needed_headers(platform: Platform, deployment: Deployment, url: str | None) -> dict[str, str]:
    """Return the headers that the function needs; its token goes to no other address."""
    own = (deployment.url, *deployment.internal_urls, *deployment.external_urls)
    if url is not None and url.rstrip("/") not in {address.rstrip("/") for address in own}:
        return {"Host": deployment.host} if deployment.host else {}
    return platform.request_headers(deployment)


def _check_combination(flags: dict[str, Any]) -> None:
    from fnbuild.errors import UsageError

    if flags["image"] is None:
        image_flags = (
            "draw",
            "points",
            "neg_points",
            "box",
            "threshold",
            "image1",
            "box1",
            "states",
        )
        for name in image_flags:
            if flags[name] not in (None, ()):
                raise UsageError(
                    f"--{name.replace('_', '-')} needs a picture", hint="`--image FILE` gives it"
                )
        if flags["output"] == "table":
            raise UsageError("-o table shows the shapes in a reply; it needs --image FILE")
    elif flags["body"] is not None:
        raise UsageError("--image makes the body; it cannot go with --body")


def _image_request(deployment: Deployment, flags: dict[str, Any]) -> ImageRequest | None:
    if flags["image"] is None:
        return None
    from fnbuild.cli.image_request import build_image_request

    request = build_image_request(deployment.function, flags)
    for text in request.request.notes:
        note(text)
    return request


def _gateway_url(deployment: Deployment, address: str | None) -> str | None:
    """Return the URL of a gateway to the function, or None without one."""
    from fnbuild.errors import UsageError

    if address is None:
        return None
    if not deployment.host:
        raise UsageError(
            f"{deployment.name} has no host by which a gateway finds it",
            hint="leave out `--gateway`",
        )
    url = address if "://" in address else f"http://{address}"
    check_address("--gateway", url)
    return url


def check_address(option: str, url: str) -> None:
    """Raise `UsageError` for a URL without a valid host or port."""
    from urllib.parse import urlsplit

    from fnbuild.errors import UsageError

    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.port != 0 and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(
            f"{option} {url!r} is not the address of a server", hint="as in http://203.0.113.7:8080"
        )


def _invocation_request(
    flags: dict[str, Any], request: ImageRequest | None, needed: dict[str, str]
) -> InvocationRequest:
    """Return the request; `needed` are headers that it has unless the flags set them."""
    from fnbuild.cli.invocation import (
        LOG_LEVEL_HEADER,
        NO_WAKE_HEADER,
        InvocationRequest,
        detect_content_type,
        is_json_document,
    )
    from fnbuild.cli.overrides import key_values
    from fnbuild.errors import UsageError
    from fnbuild.function.quantities import parse_duration

    headers: dict[str, str] = {}
    for text in flags["headers"]:
        headers.update(key_values("--headers", text))
    body = request.request.body if request else _request_body(flags)
    header_names = {key.lower() for key in headers}
    if flags["content_type"]:
        headers = {k: v for k, v in headers.items() if k.lower() != "content-type"}
        headers["Content-Type"] = flags["content_type"]
    elif request and "content-type" not in header_names:
        headers["Content-Type"] = request.request.content_type
    elif body and "content-type" not in header_names:
        headers["Content-Type"] = detect_content_type(body)
        if is_json_document(body):
            note(
                "the body is JSON sent as text/plain, as nuctl does; "
                "with -c application/json the handler gets it parsed"
            )
    headers |= {key: value for key, value in needed.items() if key.lower() not in header_names}
    if flags["no_wake"]:
        headers[NO_WAKE_HEADER] = "1"
    if flags["log_level"] != "none":
        headers[LOG_LEVEL_HEADER] = flags["log_level"]
    try:
        timeout = parse_duration(flags["timeout"])
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error
    method = (flags["method"] or ("POST" if body else "GET")).upper()
    return InvocationRequest(
        method, flags["path"], body, headers, timeout, verify=not flags["skip_tls"]
    )


def _request_body(flags: dict[str, Any]) -> bytes | None:
    if flags["body"] is not None:
        text: str = flags["body"]
        return text.encode()
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        # Standard input is closed.
        return None
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
        return sys.stdin.buffer.read() or None
    return None


def _stdout_writer(head: InvocationReply, flags: dict[str, Any]) -> Callable[[bytes], None] | None:
    """Return a function that prints a reply as it arrives; None if the whole reply is needed."""
    if flags["image"] is not None or flags["output"] != "raw":
        return None
    if flags["raise_on_status"] and not head.ok:
        return None
    _print_logs(head)

    def write(chunk: bytes) -> None:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    return write


def _print_logs(reply: InvocationReply) -> None:
    from fnbuild.cli.invocation import format_log_records

    for text in format_log_records(reply.logs()):
        note(text)


def _print_status(reply: InvocationReply, *, verbose: bool) -> None:
    from fnbuild.cli.invocation import LOGS_HEADER

    if reply.streamed is None:
        _print_logs(reply)
    colour = "green" if reply.ok else "red"
    status = click.style(f"{reply.status} {reply.reason}".rstrip(), fg=colour)
    if verbose or is_interactive() or not reply.ok:
        size = len(reply.body) if reply.streamed is None else reply.streamed
        note(f"{status} in {reply.seconds * 1000:.0f} ms, {size} bytes")
    if verbose:
        for key, value in reply.headers:
            if key.lower() != LOGS_HEADER.lower():
                note(f"{key}: {value}")


def _handle_error_status(name: str, reply: InvocationReply, *, strict: bool) -> None:
    """Print an unsuccessful reply, as nuctl does, or raise `PlatformError` if `strict`."""
    if not strict:
        _print_body(reply, "raw")
        return
    from fnbuild.errors import PlatformError

    text = reply.body.decode("utf-8", "replace").strip()
    raise PlatformError(
        f"{name} answered {reply.status} {reply.reason}: {text or '(no body)'}",
        hint=f"`fnbuild logs {name} --errors` says more" if reply.status >= 500 else None,
    )


def _print_body(reply: InvocationReply, output: str) -> None:
    import json

    from fnbuild.cli.output import format_flat_json

    if output == "json":
        try:
            click.echo(format_flat_json(json.loads(reply.body)))
            return
        except (ValueError, RecursionError):
            warn("the reply is not JSON; here it is as it came")
    stdout = sys.stdout.buffer
    stdout.write(reply.body)
    if sys.stdout.isatty() and not reply.body.endswith(b"\n"):
        stdout.write(b"\n")
    stdout.flush()


def _print_image_reply(
    request: ImageRequest, reply: InvocationReply, flags: dict[str, Any]
) -> bool:
    """Print the shapes of the reply. Return False if CVAT would refuse it."""
    from fnbuild.cli import image_request
    from fnbuild.cli.output import escape_control_characters

    parsed = image_request.read_reply(request, reply.body)
    for problem in parsed.diagnostics:
        note(escape_control_characters(str(problem)))
    if flags["draw"] is not None:
        image_request.draw_reply(request, parsed, flags["draw"])
        note(f"{count_text(len(parsed.shapes), 'shape')} drawn to {flags['draw']}")
    if flags["output"] == "table":
        click.echo(image_request.shapes_table(parsed))
    else:
        _print_body(reply, flags["output"])
    return not parsed.violations
