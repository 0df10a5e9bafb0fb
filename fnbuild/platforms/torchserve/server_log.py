"""The log of a server: its format, the handlers' own records, and the output of failed workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from fnbuild.platforms import LogRecord

# One JSON record a line, as processors write them; without those that TorchServe writes for every
# request.
LOG_CONFIG = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error">
  <Appenders>
    <Console name="log" target="SYSTEM_OUT">
      <RegexFilter regex="(?s)Backend received inference at.*|model_name: .*, batchSize: .*"
                   onMatch="DENY" onMismatch="NEUTRAL"/>
      <PatternLayout charset="UTF-8" pattern='{"time":%d{UNIX_MILLIS},\
"level":"%p{lowerCase=true}","name":"%c{1}","worker":"%enc{%t}{JSON}",\
"message":"%enc{%m%xEx}{JSON}"}%n%ex{0}'/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="org.pytorch.serve.wlm" level="warn"/>
    <Root level="info"><AppenderRef ref="log"/></Root>
  </Loggers>
</Configuration>
"""

_MODEL_LOGGER = "MODEL_LOG"
_MANAGER_LOGGER = "ModelManager"
# Of a worker, and of the server, such as when pip cannot install the requirements of a model.
_LOAD_FAILURES = ("Load model failed", "Failed to load model", "Error while registering model")
# What a worker says before its traceback, and what the next one says first.
_DEAD_WORKER = re.compile(
    r"^(?:Backend worker process died\.|Failed to load model .*)$", re.MULTILINE
)
_NEXT_WORKER = "s_name_part0="
# TorchServe first imports the handler's file. If that fails for whatever reason, it looks for a
# handler of its own with that name, whose absence says nothing.
_MISLEADING = re.compile(
    r"\n*During handling of the above exception, another exception occurred:\n"
    r"(?:(?!During handling of).)*No module named 'ts\.torch_handler\.[^']*'\n?",
    re.DOTALL,
)
# The frames of TorchServe's worker and of fnbuild's runtime, which precede those of the handler.
_SERVER_FRAME = re.compile(
    r'^  File "[^"]*/(?:ts/model_\w+|fnbuild/runtime/\w+/\w+)\.py".*\n(?:    .*\n)*', re.MULTILINE
)
_WORKER = re.compile(r"W-(?P<number>\d+)-.*-std(?:out|err)")
_LEVEL = re.compile(r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<text>.*)", re.DOTALL)


def has_load_failure(records: Iterable[LogRecord]) -> bool:
    """Return True if a model could not be loaded."""
    return any(record.message.startswith(_LOAD_FAILURES) for record in records)


def worker_output(records: Iterable[LogRecord], version: str) -> str:
    """Return the output of a worker of a version that failed; "" is any version.

    Of several workers it is the longest: that of the last one may not be complete yet. If there was
    no worker, return the errors of the server.
    """
    messages, errors = [], []
    for record in records:
        if record.fields.get("name") == _MODEL_LOGGER and f"{version}-" in (record.worker or ""):
            messages.append(record.message)
        elif record.fields.get("name") == _MANAGER_LOGGER and record.level == "error":
            errors.append(record.message)
    first, *failures = _DEAD_WORKER.split("\n".join(messages or errors))
    output = max((text.partition(_NEXT_WORKER)[0] for text in failures or [first]), key=len)
    return _SERVER_FRAME.sub("", _MISLEADING.sub("", output)).strip("\n")


def last_line(output: str) -> str:
    """Return the last line of a failed worker's output: the exception."""
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else "its workers did not start"


def with_levels(records: Iterator[LogRecord]) -> Iterator[LogRecord]:
    """Yield the records of a server's log; those of handlers get their own level and worker.

    Lines that are no records are those that Java prints at each start.
    """
    for record in records:
        worker = _WORKER.fullmatch(record.worker or "")
        if worker is None:
            yield replace(record, worker=None, level=record.level if record.fields else "info")
            continue
        level = _LEVEL.fullmatch(record.message)
        yield replace(
            record,
            level=level["level"].lower() if level else record.level,
            message=level["text"] if level else record.message,
            worker=worker["number"],
        )
