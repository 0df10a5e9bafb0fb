"""The settings and the models of a file `config.properties`, with their places in the text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fnbuild.bridges.torchserve.properties import Property, parse_properties, unescape
from fnbuild.bridges.torchserve.server_config import JSON_KEYS, SNAPSHOT_KEY, ServerConfig
from fnbuild.errors import InputError
from fnbuild.function.types import Raw

MODELS_MOUNT = "/mnt/models"
"""The folder at which KServe mounts the tree."""

Span = tuple[int, int]
"""The start and the end of a part of the text."""

_COMMENT = re.compile(r"(?:^|[ \t\f])#")
_DEFAULTS = ServerConfig()


@dataclass(frozen=True, slots=True)
class Setting:
    """A property, its value without an inline comment, and the span of that value."""

    item: Property
    value: str
    span: Span

    @property
    def key(self) -> str:
        return self.item.key


class ModelEntry(NamedTuple):
    """The settings of one version of a model, and the span of that version."""

    name: str
    version: str
    settings: Raw
    span: Span

    @property
    def archive(self) -> str:
        """The file name of the archive."""
        return str(self.settings.get("marName", ""))


class ConfigFile:
    """A configuration as it is written."""

    def __init__(self, path: Path, data: bytes | None = None):
        self.path = path
        content = _read(path) if data is None else data
        try:
            self.text, self.encoding = content.decode(), "utf-8"
        except UnicodeDecodeError:
            self.text, self.encoding = content.decode("latin-1"), "latin-1"
        self.lines = [self._setting(item) for item in parse_properties(self.text)]
        self.settings = {setting.key: setting for setting in self.lines}

    def value(self, key: str) -> str:
        """Return the value of a key, or TorchServe's default for it."""
        return self.settings[key].value if key in self.settings else str(getattr(_DEFAULTS, key))

    def is_true(self, key: str) -> bool:
        return self.value(key).lower() == "true"

    @property
    def kserve_setting(self) -> Setting | None:
        """The first path of a tree under KServe; None if the file has none."""
        mounted = re.compile(rf"{MODELS_MOUNT}(/|$)")
        return next((setting for setting in self.lines if mounted.match(setting.value)), None)

    def models(self, key: str = SNAPSHOT_KEY) -> list[ModelEntry]:
        """Return the models of `model_snapshot` or `models`; none if it is invalid."""
        if key not in self.settings:
            return []
        setting = self.settings[key]
        value, _ = parse_object(setting.value)
        models = value.get("models") if key == SNAPSHOT_KEY else value
        return [
            ModelEntry(name, version, settings, self._span(setting, name, version))
            for name, versions in _items(models)
            for version, settings in _items(versions)
            if isinstance(settings, dict)
        ]

    def versions(self) -> set[tuple[str, str]]:
        """Return the names and versions in `model_snapshot`."""
        return {(entry.name, entry.version) for entry in self.models()}

    def _span(self, setting: Setting, *keys: str) -> Span:
        """Return the place of the last one of keys that follow each other in a JSON object."""
        start, end = setting.span
        for key in keys:
            match = re.compile(rf"{re.escape(json.dumps(key))}(?=\s*:)").search(
                self.text, start, setting.span[1]
            )
            if match is None:
                return setting.span
            start, end = match.span()
        return start, end

    def _setting(self, item: Property) -> Setting:
        """Return the setting of a property. A number sign in JSON begins no comment."""
        raw = self.text[item.value_start : item.end]
        for match in _COMMENT.finditer(raw):
            value = unescape(raw[: match.start()])
            if item.key not in JSON_KEYS or parse_object(value)[1] == "":
                raw = raw[: match.start()].rstrip()
                break
        return Setting(item, unescape(raw), (item.value_start, item.value_start + len(raw)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def parse_object(text: str) -> tuple[Raw, str]:
    """Return a JSON object, or an empty one and the reason why the text is none."""
    try:
        value = json.loads(text)
        # Messages cannot have half of a surrogate pair.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    return (value, "") if isinstance(value, dict) else ({}, "it has no keys")


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
