"""Parse what an engine prints during a build: progress by step, and the step that failed.

Each builder (docker's classic one, BuildKit with --progress=plain, buildah) has its own format,
counts instructions in its own way, and ends with its own message below the output that matters.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict, deque

from fnbuild.builder.image.dockerfile_parser import parse_dockerfile, referenced_image
from fnbuild.builder.image.engine import Progress, StepError
from fnbuild.builder.image.engines.errors import clean_output, engine_error, known_error
from fnbuild.errors import BuildError, FnbuildError, UnavailableError

KEPT_LINES = 40
"""Lines of a step's output that its failure shows."""
_MAX_INSTRUCTION_LENGTH = 100
"""Letters of an instruction that progress and messages show."""
_MAX_OUTPUT_LENGTH = 160

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


class BuildOutput(ABC):
    """Follows one build. `text` is the Dockerfile."""

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        self._instructions = parse_dockerfile(text)
        self._progress = progress
        self._offline = offline
        self._current: int | None = None
        self._output: defaultdict[int | None, deque[str]] = defaultdict(
            lambda: deque(maxlen=KEPT_LINES)
        )

    def take(self, line: str) -> None:
        """One more line of the engine's output, as it came."""
        self._take(clean_output(line))

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
        known = known_error(what, words, engine=engine)
        if isinstance(known, UnavailableError):
            return known
        broken = _PARSE_ERROR.search(words)
        if broken:
            index = self._at_line(int(broken[1] or broken[2]))
        if index is None:
            return known or engine_error(what, words, engine=engine)
        one = self._instructions[index]
        # The command itself may hold such words, before the engine's own.
        statuses = _STATUS.findall(words)
        if statuses and one.kind == "RUN":
            message = f"{self._label(index)} ended with status {statuses[-1]}"
            hint = self._hint(index, statuses[-1], engine)
        else:
            what = f"{self._label(index)} failed"
            error = engine_error(what, words, engine=engine, reference=referenced_image(one))
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
            full = known_error("", "no space left on device", engine=engine)
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
            self._progress(f"  {shown[:_MAX_OUTPUT_LENGTH]}")

    def _label(self, index: int) -> str:
        text = self._instructions[index].text
        text = (
            text
            if len(text) <= _MAX_INSTRUCTION_LENGTH
            else f"{text[: _MAX_INSTRUCTION_LENGTH - 1]}…"
        )
        return f"step {index + 1}/{len(self._instructions)}  {text}"

    def _detail(self, index: int | None) -> str | None:
        return "\n".join(self._output[index]).strip("\n") or None if index is not None else None

    def _at_line(self, line: int) -> int | None:
        for index, one in enumerate(self._instructions):
            if one.line <= line <= one.last_line:
                return index
        return None


_MESSAGE_LINES = 30
_KEPT_ERRORS = 10
_WRITING = "writing the image"


class ClassicOutput(BuildOutput):
    """Docker's classic builder: `Step 3/9 : RUN …`, counting every instruction of the file."""

    _STEP = re.compile(r"Step (\d+)/(\d+) : ")
    _OWN = re.compile(
        r" ---> |Removing intermediate container |Sending build context|Successfully built |"
        r"Successfully tagged |DEPRECATED: The legacy|\s+Install the buildx|\s+https://docs\.docker\.com/go/buildx"
        r"|# Executing \d+ build trigger|\[Warning\] "
    )
    _REMOVED = "Removing intermediate container "
    _STDERR = re.compile("(\x1b\\[91m|\x1b\\[0m)")
    """How the engine marks what a step wrote to stderr, and its end."""

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        super().__init__(text, progress, offline=offline)
        self._lines: deque[str] = deque(maxlen=_MESSAGE_LINES)
        self._ended = False
        self._marked = False
        self._to_stderr = False
        self._written = 0
        self._errors: deque[tuple[int, str]] = deque(maxlen=_KEPT_ERRORS)

    def take(self, line: str) -> None:
        self._to_stderr = False
        for part in self._STDERR.split(line):
            if self._STDERR.match(part):
                self._marked = part.endswith("91m")
            elif part and self._marked:
                self._to_stderr = True
        super().take(line)

    def _take(self, line: str) -> None:
        step = self._STEP.match(line)
        if step:
            # A step that the file does not have comes of a label in the request.
            number = int(step[1]) - 1
            self._begin(number if number < len(self._instructions) else None)
            self._clear()
        elif self._OWN.match(line):
            # Behind this a step writes no more; its triggers may be several containers.
            self._ended = line.startswith(self._REMOVED)
            if self._ended:
                self._lines.clear()
            elif line == " ---> Using cache":
                self._progress("  from the cache")
        elif line:
            self._lines.append(line)
            if self._current is not None and not self._ended:
                self._wrote(self._current, line)

    def _clear(self) -> None:
        self._lines.clear()
        self._errors.clear()
        self._written = 0
        self._ended = False

    def _wrote(self, index: int | None, line: str) -> None:
        super()._wrote(index, line)
        self._written += 1
        if self._to_stderr:
            self._errors.append((self._written, line))

    def _detail(self, index: int | None) -> str | None:
        """What went to stderr may come long before what was written to stdout earlier, since the
        engine reads the two apart: its last lines are not lost behind the others."""
        kept = super()._detail(index)
        if not self._errors or self._errors[-1][0] > self._written - KEPT_LINES:
            return kept
        return "\n".join([*(line for _, line in self._errors), "…", kept or ""])

    def _failed(self) -> tuple[int | None, str]:
        if self._current is None:
            return None, "\n".join(self._lines)
        words = self._lines[-1] if self._lines else ""
        kept = self._output[self._current]
        if not self._ended and kept and kept[-1] == words:
            # The client's last line is its own; it looks like any other.
            kept.pop()
        return self._current, words


class BuildKitOutput(BuildOutput):
    """BuildKit's plain progress: every line begins with the number of what wrote it.

    It counts only the instructions that make a layer, from 1 in every stage.
    """

    _LINE = re.compile(r"#(\d+) (.*)")
    _STEP = re.compile(r"\[(?:(\S+) )?(\d+)/(\d+)\] (.*)")
    _METADATA = re.compile(r"\[internal\] load metadata for (\S+)")
    _OUTPUT = re.compile(r"\d+\.\d+ ?(.*)")
    _OWN = re.compile(r"sha256:[0-9a-f]+( |$)|DONE |CANCELED|\.\.\.$|resolve |extracting ")
    _LAYERS = ("FROM", "RUN", "COPY", "ADD", "WORKDIR")
    _POINTER = re.compile(r"\s*(\d+) \| >>> ")

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        super().__init__(text, progress, offline=offline)
        self._vertices: dict[str, int | None] = {}
        self._broken: int | None = None
        self._pointed: int | None = None
        self._words: deque[str] = deque(maxlen=_MESSAGE_LINES)

    def _take(self, line: str) -> None:
        numbered = self._LINE.match(line)
        if numbered is None:
            pointer = self._POINTER.match(line)
            if pointer and self._pointed is None:
                self._pointed = int(pointer[1])
            if line:
                self._words.append(line)
            return
        self._numbered(numbered[1], numbered[2])

    def _numbered(self, vertex: str, rest: str) -> None:
        step = self._STEP.match(rest)
        if step:
            index = self._index(step[1] or "", int(step[2]), step[4])
            self._vertices[vertex] = index
            self._begin(index)
        elif base := self._METADATA.match(rest):
            self._vertices[vertex] = self._from(base[1])
        elif rest.startswith("exporting to image"):
            self._progress(_WRITING)
        elif vertex not in self._vertices or self._OWN.match(rest):
            if rest.startswith("ERROR: "):
                self._words.append(rest)
        elif rest.startswith("CACHED"):
            self._progress("  from the cache")
        elif rest.startswith("ERROR: "):
            self._broken = self._vertices[vertex]
            self._words.append(rest)
        elif output := self._OUTPUT.match(rest):
            self._wrote(self._vertices[vertex], output[1])

    def _index(self, stage: str, number: int, text: str) -> int | None:
        """Where the step stands in the file; a base image's triggers shift the numbers."""
        words = " ".join(text.split())
        at = self._stage(stage)
        layers = [
            index
            for index, one in enumerate(self._instructions)
            if one.stage == at and one.kind in self._LAYERS
        ]
        counted = layers[number - 1] if number <= len(layers) else None
        if counted is not None and self._instructions[counted].text == words:
            return counted
        same = [index for index in layers if self._instructions[index].text == words]
        return same[0] if len(same) == 1 else counted

    def _from(self, image: str) -> int | None:
        """The FROM of that image, whose name is the whole one: docker.io/library/python:3.11."""
        bases = [i for i, one in enumerate(self._instructions) if one.kind == "FROM"]
        same = [i for i in bases if image.endswith(referenced_image(self._instructions[i]))]
        return (same or bases)[0] if len(same or bases) == 1 else None

    def _stage(self, name: str) -> int:
        numbered = re.fullmatch(r"stage-(\d+)", name)
        if numbered:
            return int(numbered[1])
        for one in self._instructions:
            words = one.text.split()
            if one.kind == "FROM" and words[-2].upper() == "AS" and words[-1].lower() == name:
                return one.stage
        return self._instructions[-1].stage if self._instructions else 0

    def _failed(self) -> tuple[int | None, str]:
        index = self._broken
        if index is None and self._pointed is not None:
            index = self._at_line(self._pointed)
        return index, "\n".join(self._words)


class BuildahOutput(BuildOutput):
    """buildah and podman: `STEP 2/3: RUN …`, counting from 1 in every stage."""

    _STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)(?:/\d+)?: (.*)")
    _OWN = re.compile(
        r"--> |COMMIT( |$)|Successfully tagged |Trying to pull |Getting image source |"
        r"Copying (blob|config) |Writing manifest |Storing signatures|[0-9a-f]{64}$"
    )
    _LOG = re.compile(r"time=\S+ level=(error|warning) ")
    _END = re.compile(r"Error: |[Ee]rror (building|creating|initializing)")

    def _take(self, line: str) -> None:
        step = self._STEP.match(line)
        if step:
            self._begin(self._index(int(step[1] or 1) - 1, int(step[2]) - 1))
        elif line.startswith("--> Using cache"):
            self._progress("  from the cache")
        elif line.startswith("COMMIT"):
            self._progress(_WRITING)
        elif line and not self._OWN.match(line):
            self._wrote(self._current, line)

    def _index(self, stage: int, number: int) -> int | None:
        of_stage = [i for i, one in enumerate(self._instructions) if one.stage == stage]
        return of_stage[number] if number < len(of_stage) else None

    def _failed(self) -> tuple[int | None, str]:
        """Its own words are the last ones, from where they begin as its words do; a step may have
        written such lines before."""
        lines = list(self._output[self._current])
        begins = [at for at, line in enumerate(lines) if self._END.match(line)]
        at = begins[-1] if begins else max(len(lines) - 1, 0)
        while at > 0 and self._LOG.match(lines[at - 1]):
            at -= 1
        words = "\n".join(lines[at:])
        kept = self._output[self._current]
        kept.clear()
        kept.extend(lines[:at])
        return self._current, words
