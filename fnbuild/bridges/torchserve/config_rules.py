"""Rules for `config.properties`, each with its place and, if there is one remedy, its repair."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fnbuild.bridges.torchserve.config_file import ConfigFile, Setting, Span, parse_object
from fnbuild.bridges.torchserve.properties import render_value, replace_spans
from fnbuild.bridges.torchserve.server_config import (
    ADDRESS_KEYS,
    BOOLEAN_KEYS,
    JSON_KEYS,
    KNOWN_KEYS,
    NUMBER_KEYS,
    REMEDIES,
    RENAMED_KEYS,
    SNAPSHOT_KEY,
    VARIABLE,
    ModelSettings,
    address_host,
    address_port,
    is_number,
)
from fnbuild.errors import Report, Severity
from fnbuild.function.files import display_path
from fnbuild.function.repair import Repair, replace_file
from fnbuild.function.source_text import SourceText, has_room, quoted, shortened
from fnbuild.function.suggestions import closest

_MAX_ROUNDS = 20
_LOOPBACK = ("127.0.0.1", "localhost", "")
_PORT_KEYS = (*ADDRESS_KEYS, "grpc_inference_port", "grpc_management_port")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file. `fix` replaces a span with a text, as the hint says."""

    severity: Severity
    rule: str
    message: str
    span: Span
    hint: str | None = None
    fix: tuple[int, int, str] | None = None


def find_problems(config: ConfigFile) -> Iterator[Problem]:
    """Yield the problems of a file itself."""
    for setting in config.lines:
        yield from _comment_problems(config, setting)
        yield from _key_problems(config, setting)
        yield from _value_problems(setting)
    yield from _port_problems(config)
    yield from _access_problems(config)
    for key in JSON_KEYS & config.settings.keys():
        yield from _json_problems(config, config.settings[key])


def report_problems(
    config: ConfigFile, problems: Iterable[Problem], *, strict: bool = False
) -> Report:
    """Return the report about problems of a file; if strict, unknown keys are errors."""
    source = SourceText(config.text, display_path(config.path))
    for problem in problems:
        is_strict = strict and problem.rule == "unknown-key"
        severity: Severity = "error" if is_strict else problem.severity
        if has_room(source.report, severity):
            start, end = (source.position(index) for index in problem.span)
            span = source.span(*start, *end)
            add = source.error if severity == "error" else source.warning
            add(problem.rule, problem.message, span, problem.hint)
    source.report.sort()
    return source.report


def repair_config(
    path: Path, find: Callable[[ConfigFile], Iterable[Problem]] = find_problems
) -> list[Repair]:
    """Repair a configuration file and return the repairs; everything else in it stays the same."""
    config = ConfigFile(path)
    repairs: list[Repair] = []
    for _ in range(_MAX_ROUNDS):
        fixes = {problem.fix: problem.hint or "" for problem in find(config) if problem.fix}
        edits: list[tuple[int, int, str]] = []
        for start, end, text in sorted(fixes):
            if edits and start <= edits[-1][1]:
                continue
            edits.append((start, end, text))
            change = shortened(f"{config.text[start:end]} became {text}", 120)
            description = fixes[start, end, text] if "\n" in text else change
            line = config.text.count("\n", 0, start) + 1
            repairs.append(Repair(display_path(path), line, description))
        if not edits:
            break
        config = ConfigFile(path, replace_spans(config.text, edits).encode(config.encoding))
    if repairs:
        replace_file(path.resolve(), config.text.encode(config.encoding))
    return repairs


def _comment_problems(config: ConfigFile, setting: Setting) -> Iterator[Problem]:
    item, end = setting.item, setting.span[1]
    if not (comment := config.text[end : item.end].lstrip()).startswith("#"):
        return
    value = config.text[item.value_start : item.end]
    effect = f"{item.key} is {quoted(value)}"
    if item.key in BOOLEAN_KEYS:
        effect += ", which counts as false"
    elif item.key in NUMBER_KEYS or item.key in ADDRESS_KEYS:
        effect += ", with which the server does not start"
    line = max(config.text.rfind(mark, 0, item.start) for mark in "\r\n") + 1
    line_break = "\r\n" if "\r\n" in config.text else "\n"
    moved = re.sub(r"\\?[\r\n]+[ \t\f]*", " ", comment)
    yield Problem(
        "error",
        "inline-comment",
        f"Java has no comments after values: {effect}",
        (item.end - len(comment), item.end),
        f"put the comment of {item.key} on a line of its own",
        (line, item.end, f"{moved}{line_break}{config.text[line:end]}"),
    )


def _key_problems(config: ConfigFile, setting: Setting) -> Iterator[Problem]:
    key, span = setting.key, (setting.item.start, setting.item.key_end)
    if key == "load_models" and SNAPSHOT_KEY in config.settings:
        message = f"load_models has no effect: the models are those of {SNAPSHOT_KEY}"
        yield Problem("warning", "ignored-key", message, span, "remove one of them")
    if key in KNOWN_KEYS:
        return
    name = RENAMED_KEYS.get(key) or closest(key, KNOWN_KEYS, 0.85)
    hint = REMEDIES.get(key) or (f"the key is {name}" if name else None)
    text = f"# {key}" if key in REMEDIES else name
    fix = (*span, text) if text and text not in config.settings else None
    message = f"TorchServe ignores the unknown key {quoted(key)}"
    yield Problem("warning", "unknown-key", message, span, hint, fix)


def _value_problems(setting: Setting) -> Iterator[Problem]:
    key, value = setting.key, setting.value
    message = ""
    if variables := VARIABLE.findall(value):
        text = f"the server starts only with the environment variable {' and '.join(variables)}"
        yield Problem("warning", "environment-variable", text, setting.span)
    elif key in BOOLEAN_KEYS and value.lower() not in ("true", "false"):
        message = f"{key} is true or false; {quoted(value)} counts as false"
    elif key in NUMBER_KEYS and not is_number(value):
        message = f"{key} is a whole number; with {quoted(value)} the server does not start"
    elif key in ADDRESS_KEYS and address_port(key, value) is None:
        message = f"{key} is http://HOST:PORT; with {quoted(value)} the server does not start"
    if message:
        yield Problem("error", "wrong-type", message, setting.span)


def _port_problems(config: ConfigFile) -> Iterator[Problem]:
    users: dict[int, str] = {}
    for key in _PORT_KEYS:
        value = config.value(key)
        port = address_port(key, value) if key in ADDRESS_KEYS else int(is_number(value) and value)
        other = users.setdefault(port or 0, key)
        setting = config.settings.get(key) or config.settings.get(other)
        if not port or other == key or setting is None:
            continue
        free = next(number for number in range(port + 1, 1 << 16) if number not in users)
        users[free] = key
        # TorchServe serves both APIs at one address.
        is_allowed = key == "management_address" and value == config.value(other)
        effect = "calls for /models/NAME/VERSION get 404" if is_allowed else "it cannot start"
        message = f"{other} and {key} share port {port}: {effect}"
        hint, fix = f"give {key} another port, such as {free}", None
        if setting.key == key and value.endswith(str(port)):
            fix = (*setting.span, value.removesuffix(str(port)) + str(free))
        severity: Severity = "warning" if is_allowed else "error"
        yield Problem(severity, "shared-port", message, setting.span, hint, fix)


def _access_problems(config: ConfigFile) -> Iterator[Problem]:
    address = config.value("management_address")
    has_tokens = not config.is_true("disable_token_authorization")
    is_open = config.is_true("enable_model_api") and address_host(address) not in _LOOPBACK
    if is_open and not has_tokens:
        message = f"clients of {address} need no token to run code"
        hint = "remove enable_model_api, or bind management_address to 127.0.0.1"
        span = config.settings["enable_model_api"].span
        yield Problem("warning", "open-server", message, span, hint)
    if has_tokens and (setting := config.kserve_setting) is not None:
        message = "under KServe, TorchServe 0.11.1 and newer never becomes ready with tokens"
        hint = "add `disable_token_authorization=true`"
        yield Problem("warning", "kserve-tokens", message, setting.span, hint)


def _json_problems(config: ConfigFile, setting: Setting) -> Iterator[Problem]:
    value, reason = parse_object(setting.value)
    if reason:
        message = f"{setting.key} is not a JSON object: {reason}"
    elif setting.key != SNAPSHOT_KEY:
        return
    elif not (models := config.models()):
        message = f"{SNAPSHOT_KEY} has no models: the server loads none, or does not start"
    elif not isinstance(count := value.get("modelCount", 0), int) or count <= 0:
        message = f"modelCount is {quoted(count)}: the server loads none of the models"
    else:
        message = ""
        for model in models:
            try:
                msgspec.convert(model.settings, ModelSettings, strict=False)
            except msgspec.ValidationError as error:
                text = f"{model.name} {model.version}: {error}: the server does not start"
                yield Problem("error", "snapshot", text, model.span)
    if message:
        yield Problem("error", "snapshot", message, setting.span)
    elif config.kserve_setting and "\n" in config.text[slice(*setting.span)]:
        message = f"KServe reads the first line of {SNAPSHOT_KEY} only"
        fix = (*setting.span, render_value(setting.value))
        yield Problem(
            "error", "kserve-snapshot", message, setting.span, "write it in one line", fix
        )
