"""`fnbuild deploy --canary-replay`: recorded requests decide whether a new revision may serve."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fnbuild.cli.console import count_text
from fnbuild.errors import NotFoundError, NotReadyError, PreconditionError, UsageError
from fnbuild.platforms.settings import needs_gpu

if TYPE_CHECKING:
    from fnbuild.cvat.replay import RecordedRequest, ReplayResult
    from fnbuild.platforms import Plan, Platform
    from fnbuild.progress import Progress

MIN_IOU = 0.95
# The newest requests that are sent, and the worst differences that the error names.
_MAX_REQUESTS = 200
_MAX_NAMED = 5


def canary_check(text: str, platform: Platform) -> Callable[[Platform, Plan, Progress], None]:
    """Return the check for `--canary-replay TEXT`. Raises `UsageError`."""
    share = text.endswith("%")
    number = text.removesuffix("%")
    if not number.isdecimal() or (share and int(number) > 100):
        raise UsageError(
            f"--canary-replay {text}: not a number of requests or a percentage",
            hint="write `--canary-replay`, `--canary-replay 3` or `--canary-replay 5%`",
        )
    if not platform.runs_trials:
        raise UsageError(
            f"--canary-replay: the {platform.name} platform cannot run a revision beside the one"
            " that serves",
            hint="deploy it under another name, and compare the two with `fnbuild replay`",
        )

    def check(platform: Platform, plan: Plan, progress: Progress) -> None:
        if plan.effective_changes and not plan.function.spec.disable:
            check_replies(platform, plan, progress, lambda count: _allowed(text, count))

    return check


def _allowed(text: str, count: int) -> int:
    """Return the number of different replies that are allowed for that many requests."""
    return count * int(text[:-1]) // 100 if text.endswith("%") else int(text)


def check_replies(
    platform: Platform, plan: Plan, progress: Progress, allowed: Callable[[int], int]
) -> None:
    """Send the recorded requests to the planned revision before it serves.

    Raises `PreconditionError` if more replies than `allowed` differ from the recorded ones.
    """
    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cvat.replay import recorded_reply, replay
    from fnbuild.deploy.trials import trial_function
    from fnbuild.platforms.access import token_headers

    requests = _recorded(platform, plan, progress)
    if not requests:
        progress("warning: there are no recorded requests: the new revision is not compared")
        return
    if needs_gpu(plan.function) and not plan.options.overlap:
        raise UsageError(
            "--canary-replay runs the new revision beside the old one, and both need a GPU",
            hint="`--overlap` allows that",
        )
    function = trial_function(plan.function)
    progress(f"sending {count_text(len(requests), 'recorded request')} to the new revision")
    with platform.trial(function, plan.artifact, progress) as url:
        after = Endpoint(url, token_headers(function)).send_again
        results = list(replay(requests, recorded_reply, after, function, MIN_IOU))
    different = [result for result in results if result.comparison.differs]
    if len(different) > allowed(len(results)):
        raise _refusal(plan, results, different, allowed(len(results)))
    progress(f"{len(different)} of {len(results)} replies differ")


def _recorded(platform: Platform, plan: Plan, progress: Progress) -> list[RecordedRequest]:
    """Return the newest requests that the function answered."""
    from fnbuild.cvat.replay import read_requests
    from fnbuild.platforms.recordings import read_recording

    metadata = plan.function.metadata
    with tempfile.TemporaryDirectory(prefix="fnbuild-recording-") as folder:
        try:
            count = read_recording(platform, metadata.namespace, metadata.name, Path(folder))
        except (NotFoundError, NotReadyError):
            return []  # it does not run, so nothing was recorded
        requests = list(read_requests(Path(folder)))
    if len(requests) < count:
        damaged = count_text(count - len(requests), "recorded request")
        progress(f"warning: {damaged} cannot be read and are left out")
    answered = [request for request in requests if request.reply and request.reply.ok]
    return answered[-_MAX_REQUESTS:]


def _refusal(
    plan: Plan,
    results: list[ReplayResult],
    different: list[ReplayResult],
    allowed: int,
) -> PreconditionError:
    from fnbuild.cvat.difference import draw_differences

    worst = sorted(different, key=lambda result: result.comparison.badness, reverse=True)
    pictures = Path(tempfile.mkdtemp(prefix="fnbuild-canary-"))
    written = draw_differences(worst[:_MAX_NAMED], plan.function, pictures)
    place = f"pictures of them are in {pictures}; " if written else ""
    if not written:
        pictures.rmdir()
    return PreconditionError(
        f"the new revision of {plan.function.metadata.name} was not started: it answers"
        f" {len(different)} of {count_text(len(results), 'recorded request')} differently, and"
        f" {allowed} may differ",
        detail="\n".join(map(_describe, worst[:_MAX_NAMED])),
        hint=f"{place}the present revision goes on serving; `--canary-replay 10%` allows more",
    )


def _describe(result: ReplayResult) -> str:
    comparison = result.comparison
    counts = f"{comparison.added} added, {comparison.removed} removed, {comparison.moved} moved"
    worst = "" if comparison.worst is None else f", worst IoU {comparison.worst:.3f}"
    return f"{result.request.name}: {comparison.note or counts + worst}"
