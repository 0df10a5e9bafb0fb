"""Parse what an engine prints during a build: progress by step, and the step that failed.

Each builder (docker's classic one, BuildKit with --progress=plain, buildah) has its own format,
counts instructions in its own way, and ends with its own message below the output that matters.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict, deque

from fnbuild.builder.image.dockerfile_parser import parse_dockerfile, referenced_image
from fnbuild.builder.image.engine import StepError
from fnbuild.builder.image.engines.errors import clean_output, engine_error, known_error
from fnbuild.errors import BuildError, FnbuildError, UnavailableError
from fnbuild.function.source_text import shortened
from fnbuild.progress import Progress

KEPT_LINES = 40
"""The number of output lines in the error of a failed step."""
_MAX_INSTRUCTION_LENGTH = 100
"""The length of an instruction in progress and messages."""
_MAX_OUTPUT_LENGTH = 160

_STATUS = re.compile(r"(?:exit code:?|non-zero code:|exit status) (\d+)")
_PARSE_ERROR = re.compile(r"parse error (?:on )?line (\d+): |[Ss]yntax error .*\bline (\d+)")
_NO_NETWORK = re.compile(
    r"[Tt]emporary failure (?:in name resolution|resolving)|Name or service not known|"
    r"[Cc]ould not resolve|Network is unreachable|NewConnectionError|getaddrinfo|"
    r"(?:Couldn't|Could not) connect to"
)
_HINTS = {
    "127": "the image lacks a program of this line",
    "137": "the step was killed, most likely because the machine ran out of memory",
}

_ERROR = re.compile(
    r"\b(error|fatal|failed|cannot|can't|no such|not found|denied|invalid|unable)\b|^E: ",
    re.IGNORECASE,
)
"""A line that likely reports an error. BuildKit and buildah do not tell stderr from stdout."""

_MESSAGE_LINES = 30
_KEPT_ERRORS = 10
_WRITING = "writing the image"


class StepOutput:
    """The last lines of a step, and its last error messages.

    An engine reads the two streams of a step separately, so their order is not the order of
    writing: a message on stderr may come long before the lines on stdout that preceded it.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._line_count = 0
        self._errors: deque[tuple[int, str]] = deque(maxlen=_KEPT_ERRORS)

    def add(self, line: str, *, is_error: bool) -> None:
        self.lines.append(line)
        self._line_count += 1
        if is_error:
            self._errors.append((self._line_count, line))

    def drop_last(self, count: int) -> None:
        """Remove the last lines: they are the engine's own message."""
        self._line_count -= count
        for _ in range(count):
            self.lines.pop()
        while self._errors and self._errors[-1][0] > self._line_count:
            self._errors.pop()

    def text(self) -> str:
        """Return the last lines, preceded by the error messages if all came before them."""
        lines = "\n".join(self.lines)
        if not self._errors or self._errors[-1][0] > self._line_count - len(self.lines):
            return lines
        return "\n".join([*(line for _, line in self._errors), "…", lines])


class BuildOutput(ABC):
    """The output of one build. `text` is the Dockerfile."""

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        self._instructions = parse_dockerfile(text)
        self._progress = progress
        self._offline = offline
        self._current: int | None = None
        self._output: defaultdict[int | None, StepOutput] = defaultdict(StepOutput)

    def feed(self, line: str) -> None:
        """Process one more line of the engine's output."""
        self._parse_line(clean_output(line))

    def timeout_error(self, seconds: float) -> BuildError:
        """Return the error for a build that was ended after `seconds`."""
        where = "" if self._current is None else f", at {self._label(self._current)}"
        return BuildError(
            f"the image was not built within {seconds:g} s{where}",
            detail=self._detail(self._current),
            hint="increase spec.build.buildTimeoutSeconds",
        )

    def failure(self, engine: str) -> FnbuildError:
        """Return the error for a build that failed, after the last line of its output."""
        index, engine_message = self._failed_step()
        what = "the image cannot be built"
        recognized = known_error(what, engine_message, engine=engine)
        if isinstance(recognized, UnavailableError):
            return recognized
        parse_error = _PARSE_ERROR.search(engine_message)
        if parse_error:
            index = self._at_line(int(parse_error[1] or parse_error[2]))
        if index is None:
            return recognized or engine_error(what, engine_message, engine=engine)
        instruction = self._instructions[index]
        # The command itself may contain such a text, before the engine's message.
        statuses = _STATUS.findall(engine_message)
        if statuses and instruction.kind == "RUN":
            message = f"{self._label(index)} ended with status {statuses[-1]}"
            hint = self._hint(index, statuses[-1], engine)
        else:
            what = f"{self._label(index)} failed"
            error = engine_error(
                what, engine_message, engine=engine, reference=referenced_image(instruction)
            )
            message, hint = error.message, error.hint
        return StepError(
            message, step=index, instruction=instruction.text, hint=hint, detail=self._detail(index)
        )

    @abstractmethod
    def _parse_line(self, line: str) -> None:
        """Process one more line, without escape codes."""

    @abstractmethod
    def _failed_step(self) -> tuple[int | None, str]:
        """Return the index of the failed instruction, if known, and the engine's own message."""

    def _hint(self, index: int, status: str, engine: str) -> str | None:
        output = self._detail(index) or ""
        if self._offline and _NO_NETWORK.search(output):
            return "this build runs without network; build without --offline to allow downloads"
        if "no space left on device" in output.lower():
            full = known_error("", "no space left on device", engine=engine)
            return full.hint if full else None
        return _HINTS.get(status)

    def _begin_step(self, index: int | None) -> None:
        """Assign the following output to an instruction."""
        if index is not None and index != self._current:
            self._progress(self._label(index))
        self._current = index

    def _add_output(self, index: int | None, line: str) -> None:
        """Add a line of a step's output. None: the step is not in the file."""
        self._output[index].add(line, is_error=self._is_error(line))
        text = line.strip()
        if text:
            self._progress(f"  {text[:_MAX_OUTPUT_LENGTH]}")

    def _is_error(self, line: str) -> bool:
        """Return True if a line of a step's output reports an error."""
        return _ERROR.search(line) is not None

    def _label(self, index: int) -> str:
        text = shortened(self._instructions[index].text, _MAX_INSTRUCTION_LENGTH)
        return f"step {index + 1}/{len(self._instructions)}  {text}"

    def _detail(self, index: int | None) -> str | None:
        return self._output[index].text().strip("\n") or None if index is not None else None

    def _at_line(self, line: int) -> int | None:
        for index, instruction in enumerate(self._instructions):
            if instruction.line <= line <= instruction.last_line:
                return index
        return None


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
    """The escape codes around a step's output to stderr."""

    def __init__(self, text: str, progress: Progress, *, offline: bool = False) -> None:
        super().__init__(text, progress, offline=offline)
        self._lines: deque[str] = deque(maxlen=_MESSAGE_LINES)
        self._ended = False
        self._in_stderr = False
        self._to_stderr = False

    def feed(self, line: str) -> None:
        self._to_stderr = False
        for part in self._STDERR.split(line):
            if self._STDERR.match(part):
                self._in_stderr = part.endswith("91m")
            elif part and self._in_stderr:
                self._to_stderr = True
        super().feed(line)

    def _parse_line(self, line: str) -> None:
        step = self._STEP.match(line)
        if step:
            # A step that is not in the file comes from a label in the request.
            number = int(step[1]) - 1
            self._begin_step(number if number < len(self._instructions) else None)
            self._lines.clear()
            self._ended = False
        elif self._OWN.match(line):
            # A step writes nothing after this line. Its triggers may run in several containers.
            self._ended = line.startswith(self._REMOVED)
            if self._ended:
                self._lines.clear()
            elif line == " ---> Using cache":
                self._progress("  from the cache")
        elif line:
            self._lines.append(line)
            if self._current is not None and not self._ended:
                self._add_output(self._current, line)

    def _is_error(self, line: str) -> bool:  # noqa: ARG002
        return self._to_stderr

    def _failed_step(self) -> tuple[int | None, str]:
        if self._current is None:
            return None, "\n".join(self._lines)
        message = self._lines[-1] if self._lines else ""
        output = self._output[self._current]
        if not self._ended and output.lines and output.lines[-1] == message:
            # The last line comes from the client, though it looks like any other.
            output.drop_last(1)
        return self._current, message


class BuildKitOutput(BuildOutput):
    """BuildKit's plain progress: every line begins with the number of its vertex.

    It counts only the instructions that create a layer, from 1 in every stage.
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
        self._failed_index: int | None = None
        self._error_line: int | None = None
        self._messages: deque[str] = deque(maxlen=_MESSAGE_LINES)

    def _parse_line(self, line: str) -> None:
        numbered = self._LINE.match(line)
        if numbered is None:
            pointer = self._POINTER.match(line)
            if pointer and self._error_line is None:
                self._error_line = int(pointer[1])
            if line:
                self._messages.append(line)
            return
        self._parse_vertex_line(numbered[1], numbered[2])

    def _parse_vertex_line(self, vertex: str, rest: str) -> None:
        step = self._STEP.match(rest)
        if step:
            index = self._index(step[1] or "", int(step[2]), step[4])
            self._vertices[vertex] = index
            self._begin_step(index)
        elif base := self._METADATA.match(rest):
            self._vertices[vertex] = self._from_index(base[1])
        elif rest.startswith("exporting to image"):
            self._progress(_WRITING)
        elif vertex not in self._vertices or self._OWN.match(rest):
            if rest.startswith("ERROR: "):
                self._messages.append(rest)
        elif rest.startswith("CACHED"):
            self._progress("  from the cache")
        elif rest.startswith("ERROR: "):
            self._failed_index = self._vertices[vertex]
            self._messages.append(rest)
        elif output := self._OUTPUT.match(rest):
            self._add_output(self._vertices[vertex], output[1])

    def _index(self, stage: str, number: int, text: str) -> int | None:
        """Return the index of the step in the file; a base image's triggers shift the numbers."""
        words = " ".join(text.split())
        stage_index = self._stage(stage)
        layers = [
            index
            for index, instruction in enumerate(self._instructions)
            if instruction.stage == stage_index and instruction.kind in self._LAYERS
        ]
        counted = layers[number - 1] if number <= len(layers) else None
        if counted is not None and self._instructions[counted].text == words:
            return counted
        same = [index for index in layers if self._instructions[index].text == words]
        return same[0] if len(same) == 1 else counted

    def _from_index(self, image: str) -> int | None:
        """Return the FROM of an image, given by its full name: docker.io/library/python:3.11."""
        bases = [
            i for i, instruction in enumerate(self._instructions) if instruction.kind == "FROM"
        ]
        same = [i for i in bases if image.endswith(referenced_image(self._instructions[i]))]
        return (same or bases)[0] if len(same or bases) == 1 else None

    def _stage(self, name: str) -> int:
        numbered = re.fullmatch(r"stage-(\d+)", name)
        if numbered:
            return int(numbered[1])
        for instruction in self._instructions:
            if name and instruction.stage_name == name:
                return instruction.stage
        return self._instructions[-1].stage if self._instructions else 0

    def _failed_step(self) -> tuple[int | None, str]:
        index = self._failed_index
        if index is None and self._error_line is not None:
            index = self._at_line(self._error_line)
        return index, "\n".join(self._messages)


class BuildahOutput(BuildOutput):
    """buildah and podman: `STEP 2/3: RUN …`, counting from 1 in every stage."""

    _STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)(?:/\d+)?: (.*)")
    _OWN = re.compile(
        r"--> |COMMIT( |$)|Successfully tagged |Trying to pull |Getting image source |"
        r"Copying (blob|config) |Writing manifest |Storing signatures|[0-9a-f]{64}$"
    )
    _LOG = re.compile(r"time=\S+ level=(error|warning) ")
    _END = re.compile(r"Error: |[Ee]rror (building|creating|initializing)")

    def _parse_line(self, line: str) -> None:
        step = self._STEP.match(line)
        if step:
            self._begin_step(self._index(int(step[1] or 1) - 1, int(step[2]) - 1))
        elif line.startswith("--> Using cache"):
            self._progress("  from the cache")
        elif line.startswith("COMMIT"):
            self._progress(_WRITING)
        elif line and not self._OWN.match(line):
            self._add_output(self._current, line)

    def _index(self, stage: int, number: int) -> int | None:
        of_stage = [
            i for i, instruction in enumerate(self._instructions) if instruction.stage == stage
        ]
        return of_stage[number] if number < len(of_stage) else None

    def _failed_step(self) -> tuple[int | None, str]:
        """Separate the engine's message from the step's output.

        The message is the last one that begins like an error of the engine; the step may have
        written similar lines before.
        """
        lines = list(self._output[self._current].lines)
        starts = [start for start, line in enumerate(lines) if self._END.match(line)]
        start = starts[-1] if starts else max(len(lines) - 1, 0)
        while start > 0 and self._LOG.match(lines[start - 1]):
            start -= 1
        message = "\n".join(lines[start:])
        self._output[self._current].drop_last(len(lines) - start)
        return self._current, message
