"""`fnbuild run --image`: the same picture sent to a function after every change of its code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.cli import invocation, picture
from fnbuild.cli.console import note
from fnbuild.cli.invocation import Call
from fnbuild.cli.output import printable
from fnbuild.errors import PlatformError, UsageError
from fnbuild.spec.types import Function

_SECONDS = 600.0
_NO_FLAGS: dict[str, Any] = {
    "threshold": None,
    "points": (),
    "neg_points": (),
    "box": (),
    "image1": None,
    "box1": (),
    "max_distance": None,
    "states": None,
}


@dataclass(frozen=True, slots=True)
class Redraw:
    """A picture to send, and the file for the drawing, if one is wanted."""

    image: Path
    out: Path | None

    def without_drawing(self, changed: set[Path]) -> set[Path]:
        """Return the changed files without the drawing, which is not part of the function."""
        if self.out is None:
            return changed
        own = self.out.resolve()
        return {path for path in changed if path.resolve() != own}

    def draw(self, function: Function, url: str) -> None:
        """Send the picture, and print the duration and the content of the reply.

        Raises `FnbuildError` if the function fails.
        """
        asked = picture.ask(function, {**_NO_FLAGS, "image": self.image, "draw": self.out})
        headers = {"Content-Type": asked.request.content_type}
        answer = invocation.send(url, Call("POST", "", asked.request.body, headers, _SECONDS))
        if not answer.ok:
            text = answer.body.decode("utf-8", "replace").strip()
            raise PlatformError(
                f"the function answered {answer.status} {answer.reason}: {text or '(no body)'}"
            )
        seen = picture.read(asked, answer.body)
        for problem in seen.problems:
            note(printable(str(problem)))
        where = ""
        if self.out is not None:
            picture.draw(asked, seen, self.out)
            where = f", drawn to {self.out}"
        note(f"{picture.count(seen)} in {answer.seconds * 1000:.0f} ms{where}")


def redraw_of(image: Path | None, out: Path | None) -> Redraw | None:
    """Return what the flags ask for; None without a picture."""
    if image is None:
        if out is not None:
            raise UsageError("--draw needs a picture", hint="`--image FILE` gives it")
        return None
    if not image.is_file():
        raise UsageError(f"--image {image}: there is no such file")
    return Redraw(image, out)
