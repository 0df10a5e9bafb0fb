"""Settings of a function for one platform, in a mapping below `spec.platform.attributes`.

Nuclio keeps unknown attributes of the platform as they are, so the same file deploys to all. The
settings are structs; the types of their fields determine which values are valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from fnbuild.errors import InputError
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import did_you_mean
from fnbuild.function.types import FieldPath, Function

Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Percentage = Annotated[int, Meta(ge=0, le=100)]
Port = Annotated[int, Meta(ge=1, le=65535)]

_RANGES = {
    Count: "0 or more", PositiveCount: "1 or more", Percentage: "0 to 100", Port: "1 to 65535"
}  # fmt: skip
_TYPE_DESCRIPTIONS = {str: "text", bool: "true or false", int: "a whole number"}


class Settings(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """Base of the settings and of their parts."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """An invalid setting. `path` is relative to the settings; `is_key` if the key is wrong."""

    path: FieldPath
    message: str
    hint: str | None = None
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class PlatformAttribute(Generic[S]):
    """An attribute with settings: its name, the product that it configures, and its type.

    `contradictions` yields the problems of settings that are valid each by itself.
    """

    name: str
    product: str
    struct: type[S]
    contradictions: Callable[[S], Iterator[SettingProblem]]

    @property
    def path(self) -> FieldPath:
        """The path of the attribute in a function."""
        return ("spec", "platform", "attributes", self.name)

    def read(self, function: Function) -> S:
        """Return the settings. Raises `InputError` with the place of the first invalid one."""
        raw = function.spec.platform.attributes.get(self.name)
        if raw is None:
            return self.struct()
        for problem in self.find_problems(raw):
            place = ".".join(map(str, (*self.path, *problem.path)))
            raise InputError(f"{place}: {problem.message}", hint=problem.hint)
        return self._decode(raw)

    def find_problems(self, raw: Any) -> Iterator[SettingProblem]:
        """Yield all invalid settings; contradictions only if every setting is valid by itself."""
        problems = list(_type_problems(raw, self.struct, (), self.name))
        yield from problems or self.contradictions(self._decode(raw))

    def _decode(self, raw: Any) -> S:
        return msgspec.convert(_without_nulls(raw), self.struct)


def _without_nulls(value: Any) -> Any:
    """Return the value without keys that have no value: they count as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _type_problems(
    raw: Any, struct: type[msgspec.Struct], path: FieldPath, name: str
) -> Iterator[SettingProblem]:
    """Yield the problems of a mapping; `name` is the one of its key."""
    if not isinstance(raw, dict):
        yield SettingProblem(path, f"{name} is a mapping of settings")
        return
    fields = {item.encode_name: item for item in msgspec.structs.fields(struct)}
    for key, value in raw.items():
        if key not in fields:
            hint = did_you_mean(str(key), fields)
            message = f"{quoted(key)} is no setting; there are {', '.join(fields)}"
            yield SettingProblem((*path, key), message, hint, is_key=True)
        elif value is not None:
            yield from _value_problems(value, fields[key].type, (*path, key), key)


def _value_problems(value: Any, kind: Any, path: FieldPath, name: str) -> Iterator[SettingProblem]:
    kind = _without_none(kind)
    if nested := _struct_of(kind):
        yield from _type_problems(value, nested, path, name)
    elif get_origin(kind) is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _value_problems(item, get_args(kind)[0], (*path, index), name)
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            message = f"{name} is {_description(kind)}, not {quoted(value)}"
            yield SettingProblem(path, message, _type_hint(value, kind))


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    candidates = (kind, *get_args(kind)) if get_origin(kind) is not list else (kind,)
    return next(
        (item for item in candidates if isinstance(item, type) and issubclass(item, Settings)),
        None,
    )


def _without_none(kind: Any) -> Any:
    options = [item for item in get_args(kind) if item is not type(None)]
    is_optional = type(None) in get_args(kind)
    return options[0] if is_optional and len(options) == 1 else kind


def _description(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in _RANGES:
        return f"a whole number, {_RANGES[kind]}"
    if get_origin(kind) is list:
        return "a list"
    return "a mapping of texts" if get_origin(kind) is dict else _TYPE_DESCRIPTIONS[kind]


def _type_hint(value: Any, kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return did_you_mean(str(value), get_args(kind))
    if kind is str and isinstance(value, int | float):
        return f'write it in quotes: "{value}"'
    if get_origin(kind) is dict:
        return 'write numbers in quotes, as in `cpu: "0.5"` or `cpu: 500m`'
    return None
