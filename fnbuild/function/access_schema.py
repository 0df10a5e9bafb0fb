"""The JSON Schema of the authentication at a function: attributes of its http trigger."""

from __future__ import annotations

from typing import Any

from fnbuild.function.access_settings import HOSTS_ANNOTATION, OPEN_ANNOTATION
from fnbuild.runtime.access.settings import MODES
from fnbuild.runtime.access.signatures import ALGORITHMS

ANNOTATION_DESCRIPTIONS = {
    OPEN_ANNOTATION: "Set by `--open`: true states that all clients may call the function.",
    HOSTS_ANNOTATION: "Further names, separated by commas, of a function on a loopback port.",
}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _mapping(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _reference(name: str, description: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", "description": description}


DEFINITIONS: dict[str, dict[str, Any]] = {
    "Authentication": _mapping(
        {
            "basicAuth": _reference("BasicAuth", "The user of the mode basicAuth."),
            "tokens": {
                "type": "array",
                "items": {"$ref": "#/$defs/BearerToken"},
                "description": "Bearer tokens, which `fnbuild token` creates and revokes.",
            },
            "jwt": _reference("WebTokens", "JSON Web Tokens of an issuer."),
        }
    ),
    "BasicAuth": _mapping(
        {
            "username": _text("The name of the user, without a colon."),
            "password": _text("The password; only its hash is stored."),
        },
        "username",
    ),
    "BearerToken": _mapping(
        {
            "name": _text("The name of the token."),
            "sha256": {
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": "The SHA-256 of the token.",
            },
            "created": _text("The time of its creation."),
            "expires": _text("The time of its end, as in 2026-12-31T23:59:59Z."),
        },
        "name",
        "sha256",
    ),
    "WebTokens": _mapping(
        {
            "jwksFile": _text("The file with the keys, relative to the function's folder."),
            "jwksURL": _text("The URL of the keys, which are read again when they change."),
            "secret": _text("The secret of HS256, of 32 bytes or more."),
            "issuer": _text("The `iss` that tokens must have."),
            "audience": {
                "type": ["string", "array"],
                "items": {"type": "string"},
                "description": "The `aud` of which tokens must have one.",
            },
            "algorithms": {
                "type": "array",
                "items": {"enum": list(ALGORITHMS)},
                "description": "The algorithms that may sign tokens; all by default.",
            },
            "leewaySeconds": {
                "type": "number",
                "minimum": 0,
                "maximum": 600,
                "description": "The tolerance of times; 30 by default.",
            },
            "requiredClaims": {
                "type": "object",
                "description": "Further claims that tokens must have, such as a scope.",
            },
        }
    ),
}

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "authenticationMode": {
        "enum": list(MODES),
        "description": "http: the credentials that requests need; none by default.",
    },
    "authentication": _reference("Authentication", "http: the credentials that are valid."),
}
