"""Redact the text of a configuration file, and keep its layout and comments."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from operator import itemgetter

import yaml

from fnbuild.errors import Report
from fnbuild.function.secret_detection import (
    SECRET_ENV_ANNOTATION,
    declared_secrets,
    is_secret,
    strip_userinfo,
)
from fnbuild.function.secrets import (
    PLAIN_TRIGGER_KINDS,
    SECRET_ATTRIBUTE_KEYS,
    SECRET_CODE_KEYS,
    SECRET_TRIGGER_KEYS,
)
from fnbuild.function.source_text import SourceText, decode_source
from fnbuild.function.yaml_nodes import YamlNode
from fnbuild.function.yaml_parser import parse_yaml
from fnbuild.runtime.access.settings import SECRET_KEYS as ACCESS_SECRET_KEYS


@dataclass(frozen=True, slots=True)
class VariableRedaction:
    """Options for variables: `mask` replaces secret values, and all values if `every` is set."""

    mask: str = ""
    every: bool = False


def redact_config_text(
    data: bytes, name: str, variables: VariableRedaction = VariableRedaction()
) -> bytes:
    """Return the bytes of a file with secrets replaced and without a password in the code path.

    `variables.mask` replaces values of secret variables, "" any other secret. The bytes are
    unchanged if there is no secret, or if they are not YAML. `name` is for messages.
    """
    source = decode_source(data, name, Report())
    tree = parse_yaml(source) if source is not None else None
    if tree is None:
        return data
    root, source = tree
    secrets = list(_find_secrets(root, variables))
    if not secrets:
        return data
    text = _replace_secrets(source, secrets, variables.mask)
    edited = parse_yaml(SourceText(text, name))
    if edited is None or any(_find_secrets(edited[0], variables)):
        # Some notations cannot be edited in the text, so the file is written again as a whole.
        for node, rest in secrets:
            node.value = rest
        text = yaml.safe_dump(root.to_value(), allow_unicode=True, sort_keys=False)
    return text.encode()


def redact_access_secrets(data: bytes, name: str) -> bytes:
    """Return the bytes of a file without the passwords and secrets of authentication.

    The rest is unchanged, as are bytes that are not YAML. `name` is for messages.
    """
    if b"authentication" not in data.lower():
        return data
    source = decode_source(data, name, Report())
    tree = parse_yaml(source) if source is not None else None
    if tree is None:
        return data
    root, source = tree
    triggers = _pairs_of(_child(_child(root, "spec"), "triggers"))
    secrets = [pair for _, trigger in triggers for pair in _access_secrets(trigger)]
    if not secrets:
        return data
    text = _replace_secrets(source, secrets, "")
    edited = parse_yaml(SourceText(text, name))
    if edited is None:
        for node, rest in secrets:
            node.value = rest
        text = yaml.safe_dump(root.to_value(), allow_unicode=True, sort_keys=False)
    return text.encode()


def _access_secrets(trigger: YamlNode) -> Iterator[tuple[YamlNode, str]]:
    """Yield the passwords and secrets in the authentication of a trigger."""
    access = _child(_child(trigger, "attributes"), "authentication")
    return _values_of_keys(access, ACCESS_SECRET_KEYS, deeply=True)


def _find_secrets(root: YamlNode, variables: VariableRedaction) -> Iterator[tuple[YamlNode, str]]:
    """Yield each scalar that contains a secret, and the text that replaces it."""
    spec = _child(root, "spec")
    marker = _child(_child(_child(root, "metadata"), "annotations"), SECRET_ENV_ANNOTATION)
    declared = declared_secrets({SECRET_ENV_ANNOTATION: marker.text} if marker is not None else {})
    lists = (_child(spec, key) for key in ("sidecars", "initContainers"))
    containers = [item for node in lists if node is not None for item in node.items]
    for owner in (spec, *containers):
        env = _child(owner, "env")
        for variable in env.items if env is not None else ():
            yield from _variable_secrets(variable, declared, variables)
    for _, trigger in _pairs_of(_child(spec, "triggers")):
        yield from _values_of_keys(trigger, SECRET_TRIGGER_KEYS)
        yield from _address_with_credentials(_child(trigger, "url"))
        yield from _access_secrets(trigger)
        kind = _child(trigger, "kind")
        if kind is None or kind.text not in PLAIN_TRIGGER_KINDS:
            yield from _values_of_keys(
                _child(trigger, "attributes"), SECRET_ATTRIBUTE_KEYS, deeply=True
            )
    build = _child(spec, "build")
    yield from _values_of_keys(_child(build, "codeEntryAttributes"), SECRET_CODE_KEYS)
    yield from _address_with_credentials(_child(build, "path"))


def _variable_secrets(
    variable: YamlNode, declared: Collection[str], options: VariableRedaction
) -> Iterator[tuple[YamlNode, str]]:
    name, value = _child(variable, "name"), _child(variable, "value")
    if value is None or name is None or value.text == options.mask:
        return
    if options.every or name.text in declared or is_secret(name.text, value.text):
        yield from ((node, options.mask) for node, _ in _scalars(value))


def _values_of_keys(
    node: YamlNode | None, names: Collection[str], *, deeply: bool = False
) -> Iterator[tuple[YamlNode, str]]:
    """Yield the scalars in the values of these keys."""
    for key, value in _pairs_of(node):
        if key.text.lower() in names:
            yield from _scalars(value)
        elif deeply:
            yield from _nested_secrets(value, names)


def _nested_secrets(node: YamlNode, names: Collection[str]) -> Iterator[tuple[YamlNode, str]]:
    """Yield the scalars in the values of these keys at any depth, and addresses with a password."""
    if node.kind == "scalar":
        yield from _address_with_credentials(node)
    for item in node.items:
        yield from _nested_secrets(item, names)
    yield from _values_of_keys(node, names, deeply=True)


def _address_with_credentials(node: YamlNode | None) -> Iterator[tuple[YamlNode, str]]:
    if node is not None and (rest := strip_userinfo(node.text)) != node.text:
        yield node, rest


def _pairs_of(node: YamlNode | None) -> list[tuple[YamlNode, YamlNode]]:
    return node.pairs if node is not None else []


def _child(node: YamlNode | None, key: str) -> YamlNode | None:
    """Return the value of a key in any case, as in Nuclio (pkg/functionconfig/reader.go)."""
    values = (value for name, value in _pairs_of(node) if name.text.lower() == key.lower())
    return next(values, None)


def _scalars(node: YamlNode) -> Iterator[tuple[YamlNode, str]]:
    """Yield the scalars of a value that are not empty, each with an empty replacement."""
    if node.kind == "scalar":
        if node.text:
            yield node, ""
        return
    for inner in (*node.items, *(value for _, value in node.pairs)):
        yield from _scalars(inner)


def _replace_secrets(source: SourceText, secrets: list[tuple[YamlNode, str]], mask: str) -> str:
    """Return the source's text with the secrets replaced. Aliases share the place of their node."""
    text = source.text
    places = {source.index(node.line, node.column): (node, rest) for node, rest in secrets}
    for start, (node, rest) in sorted(places.items(), key=itemgetter(0), reverse=True):
        written = text[start : source.index(node.end_line, node.end_column)].rstrip()
        address = rest and rest != mask
        left = strip_userinfo(written) if address else _quoted_replacement(written, rest)
        text = text[:start] + left + text[start + len(written) :]
    return text


def _quoted_replacement(written: str, text: str) -> str:
    # Aliases may refer to its anchor.
    anchor = written.partition(" ")[0] + " " if written.startswith("&") else ""
    return f'{anchor}"{text}"'
