"""Remove the secrets from a configuration file, for copies that others can read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from operator import itemgetter

import yaml

from fnbuild.errors import Report
from fnbuild.spec.nodes import Node
from fnbuild.spec.secrets import (
    OF_ATTRIBUTES,
    OF_CODE,
    OF_TRIGGERS,
    OWN_KINDS,
    without_credentials,
)
from fnbuild.spec.sensitive import SECRET_ENV, is_secret, marked
from fnbuild.spec.source import Source, decode
from fnbuild.spec.syntax import read_tree


@dataclass(frozen=True, slots=True)
class Variables:
    """The treatment of environment variables: `mask` replaces the values of secret variables,
    and those of all variables if `every` is set.
    """

    mask: str = ""
    every: bool = False


def redacted(data: bytes, file: str, variables: Variables = Variables()) -> bytes:
    """Return the file's bytes with secrets emptied and without a password in the code path.

    The bytes are unchanged if there is no secret, or if they are not YAML. `file` is a name for
    messages.
    """
    source = decode(data, file, Report())
    read = read_tree(source) if source is not None else None
    if read is None:
        return data
    root, source = read
    secrets = list(_secrets(root, variables))
    if not secrets:
        return data
    text = _edited(source, secrets, variables.mask)
    again = read_tree(Source(text, file))
    if again is None or any(_secrets(again[0], variables)):
        # What is written in a roundabout way cannot be cut out of the text.
        for node, rest in secrets:
            node.value = rest
        text = yaml.safe_dump(root.plain(), allow_unicode=True, sort_keys=False)
    return text.encode()


def _secrets(root: Node, variables: Variables) -> Iterator[tuple[Node, str]]:
    """The texts that hold one, as `fnbuild.spec.secrets` knows them, and what is to be left."""
    spec = _value(root, "spec")
    noted = _value(_value(_value(root, "metadata"), "annotations"), SECRET_ENV)
    declared = marked({SECRET_ENV: noted.text} if noted is not None else {})
    containers = (_value(spec, key) for key in ("sidecars", "initContainers"))
    for owner in (spec, *(one for some in containers if some is not None for one in some.items)):
        env = _value(owner, "env")
        for one in env.items if env is not None else ():
            yield from _variable(one, declared, variables)
    for _, trigger in _pairs(_value(spec, "triggers")):
        yield from _named(trigger, OF_TRIGGERS)
        yield from _address(_value(trigger, "url"))
        kind = _value(trigger, "kind")
        if kind is None or kind.text not in OWN_KINDS:
            yield from _named(_value(trigger, "attributes"), OF_ATTRIBUTES, deeply=True)
    build = _value(spec, "build")
    yield from _named(_value(build, "codeEntryAttributes"), OF_CODE)
    yield from _address(_value(build, "path"))


def _variable(
    variable: Node, declared: Collection[str], how: Variables
) -> Iterator[tuple[Node, str]]:
    name, value = _value(variable, "name"), _value(variable, "value")
    if value is None or name is None or value.text == how.mask:
        return
    if how.every or name.text in declared or is_secret(name.text, value.text):
        yield from ((node, how.mask) for node, _ in _texts(value))


def _named(
    node: Node | None, names: Collection[str], *, deeply: bool = False
) -> Iterator[tuple[Node, str]]:
    """The texts of the values with these names."""
    for key, value in _pairs(node):
        if key.text.lower() in names:
            yield from _texts(value)
        elif deeply:
            yield from _deeply(value, names)


def _deeply(node: Node, names: Collection[str]) -> Iterator[tuple[Node, str]]:
    """The same at any depth, and addresses with a password."""
    if node.kind == "scalar":
        yield from _address(node)
    for item in node.items:
        yield from _deeply(item, names)
    yield from _named(node, names, deeply=True)


def _address(node: Node | None) -> Iterator[tuple[Node, str]]:
    if node is not None and (rest := without_credentials(node.text)) != node.text:
        yield node, rest


def _pairs(node: Node | None) -> list[tuple[Node, Node]]:
    return node.pairs if node is not None else []


def _value(node: Node | None, key: str) -> Node | None:
    """Keys match whatever their case, as in Nuclio (pkg/functionconfig/reader.go)."""
    found = (value for name, value in _pairs(node) if name.text.lower() == key.lower())
    return next(found, None)


def _texts(node: Node) -> Iterator[tuple[Node, str]]:
    """The scalars of a value that say anything, each to become empty."""
    if node.kind == "scalar":
        if node.text:
            yield node, ""
        return
    for inner in (*node.items, *(value for _, value in node.pairs)):
        yield from _texts(inner)


def _edited(source: Source, secrets: list[tuple[Node, str]], mask: str) -> str:
    """The text with the secrets cut out where they stand; two names for one are one place."""
    text = source.text
    places = {source.index(node.line, node.column): (node, rest) for node, rest in secrets}
    for start, (node, rest) in sorted(places.items(), key=itemgetter(0), reverse=True):
        written = text[start : source.index(node.end_line, node.end_column)].rstrip()
        address = rest and rest != mask
        left = without_credentials(written) if address else _replaced(written, rest)
        text = text[:start] + left + text[start + len(written) :]
    return text


def _replaced(written: str, text: str) -> str:
    # Others may refer to its anchor.
    anchor = written.partition(" ")[0] + " " if written.startswith("&") else ""
    return f'{anchor}"{text}"'
