"""From what an engine writes during a build: progress by step, and the step that failed.

Every builder writes in its own way (`dialects`), numbers the instructions in its own way, and ends
with words of its own below the output that matters.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict, deque

from fnbuild.build.image.engine import Progress, StepError
from fnbuild.build.image.engines.reasons import clean, explained, meaning
from fnbuild.build.image.instructions import image_of, instructions
from fnbuild.errors import BuildError, FnbuildError, UnavailableError

KEPT_LINES = 40
"""Lines of a step's output that its failure shows."""
_SHOWN = 100
"""Letters of an instruction that progress and messages show."""
_OUTPUT_SHOWN = 160

_STATUS = re.compile(r"(?:exit code:?|non-zero code:|exit status) (\d+)")
_PARSE_ERROR = re.compile(r"parse error (?:on )?line (\d+): |[Ss]yntax error .*\bline (\d+)")
_NO_NETWORK = re.compile(
    r"[Tt]emporary failure (?:in name resolution|resolving)|Name or service not known|"
    r"[Cc]ould not resolve|Network is unreachable|NewConnectionError|getaddrinfo|"
    r"(?:Couldn't|Could not) connect to"
)
_HINTS = {
    "127": "a program of the line is not in the image",
    "137": "the step was killed, most often because the machine ran out of memory",
}


class Steps(ABC):
    """Follows one build. `text` is the Dockerfile."""

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        self._instructions = instructions(text)
        self._progress = progress
        self._offline = offline
        self._current: int | None = None
        self._output: defaultdict[int | None, deque[str]] = defaultdict(
            lambda: deque(maxlen=KEPT_LINES)
        )

    def take(self, line: str) -> None:
        """One more line of the engine's output, as it came."""
        self._take(clean(line))

    def late(self, seconds: float) -> BuildError:
        """The error for a build that was ended after so many seconds."""
        where = "" if self._current is None else f", at {self._label(self._current)}"
        return BuildError(
            f"the image was not built within {seconds:g} s{where}",
            detail=self._detail(self._current),
            hint="spec.build.buildTimeoutSeconds allows more",
        )

    def failure(self, engine: str) -> FnbuildError:
        """The error for a build that failed, behind the last line of its output."""
        index, words = self._failed()
        what = "the image cannot be built"
        known = meaning(what, words, engine=engine)
        if isinstance(known, UnavailableError):
            return known
        broken = _PARSE_ERROR.search(words)
        if broken:
            index = self._at_line(int(broken[1] or broken[2]))
        if index is None:
            return known or explained(what, words, engine=engine)
        one = self._instructions[index]
        # The command itself may hold such words, before the engine's own.
        statuses = _STATUS.findall(words)
        if statuses and one.kind == "RUN":
            message = f"{self._label(index)} ended with status {statuses[-1]}"
            hint = self._hint(index, statuses[-1], engine)
        else:
            what = f"{self._label(index)} failed"
            error = explained(what, words, engine=engine, reference=image_of(one))
            message, hint = error.message, error.hint
        return StepError(
            message, step=index, instruction=one.text, hint=hint, detail=self._detail(index)
        )

    @abstractmethod
    def _take(self, line: str) -> None:
        """One more line, without escape codes."""

    @abstractmethod
    def _failed(self) -> tuple[int | None, str]:
        """The index of the instruction that failed, if it is known, and the engine's own words."""

    def _hint(self, index: int, status: str, engine: str) -> str | None:
        wrote = self._detail(index) or ""
        if self._offline and _NO_NETWORK.search(wrote):
            return "this build runs without network; build without --offline to let it fetch things"
        if "no space left on device" in wrote.lower():
            full = meaning("", "no space left on device", engine=engine)
            return full.hint if full else None
        return _HINTS.get(status)

    def _begin(self, index: int | None) -> None:
        """The output that follows belongs to this instruction."""
        if index is not None and index != self._current:
            self._progress(self._label(index))
        self._current = index

    def _wrote(self, index: int | None, line: str) -> None:
        """A line of a step's own output. None: of a step that is not in the file."""
        self._output[index].append(line)
        shown = line.strip()
        if shown:
            self._progress(f"  {shown[:_OUTPUT_SHOWN]}")

    def _label(self, index: int) -> str:
        text = self._instructions[index].text
        text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        return f"step {index + 1}/{len(self._instructions)}  {text}"

    def _detail(self, index: int | None) -> str | None:
        return "\n".join(self._output[index]).strip("\n") or None if index is not None else None

    def _at_line(self, line: int) -> int | None:
        for index, one in enumerate(self._instructions):
            if one.line <= line <= one.last_line:
                return index
        return None
