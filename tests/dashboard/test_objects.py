"""Secrets that clients see masked are restored when clients send them back."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.dashboard.objects import redact_values, restore_secrets
from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import to_dict

pytestmark = pytest.mark.system

STORED: dict[str, Any] = {
    "metadata": {"name": "it"},
    "spec": {
        "env": [
            {"name": "API_KEY", "value": "k1"},
            {"name": "PLAIN", "value": "p1"},
            {"name": "DATABASE_URL", "value": "postgres://u:u1@db/x"},
        ],
        "triggers": {
            "queue": {
                "kind": "rabbit-mq",
                "name": "queue",
                "url": "amqp://me:s3cret@queue:5672",
                "password": "t1",
                "attributes": {
                    "deep": {"accessKey": "a1"},
                    "topics": ["x"],
                    "list": [{"host": "a", "password": "l1"}, {"host": "b", "password": "l2"}],
                    "brokers": ["amqp://u:b1@h", "amqp://u:b2@h"],
                },
            },
            "night": {
                "kind": "cron",
                "name": "night",
                "attributes": {
                    "interval": "1h", "event": {"headers": {"Authorization": "c1"}, "body": "x"}
                },
            },
        },
        "dataBindings": {"db": {"secret": "s1"}},
        "runtimeAttributes": {"password": "r1"},
        "volumes": [{"volume": {"name": "f", "flexVolume": {"options": {"accessKey": "f1"}}}}],
        "build": {
            "path": "https://me:s3cret@example.com/code.zip?token=q1",
            "codeEntryType": "archive",
            "codeEntryAttributes": {"headers": {"X-Key": "h1"}, "workDir": "fn"},
        },
        "sidecars": [{"name": "side", "env": [{"name": "DB_PASSWORD", "value": "d1"}]}],
    },
}  # fmt: skip
SECRETS = [
    "k1",
    "s3cret",
    "t1",
    "a1",
    "h1",
    "d1",
    "u1",
    "l1",
    "l2",
    "b1",
    "b2",
    "c1",
    "s1",
    "r1",
    "f1",
    "q1",
]


def sent_back(*, show_values: bool = True, **spec: Any) -> dict[str, Any]:
    """Return the stored object after a client has sent it back with these changes."""
    stored = function_from_dict(STORED, "it")
    shown = redact_values(to_dict(stored), show_values=show_values)
    body = {**shown, "spec": {**shown["spec"], **spec}}
    return to_dict(restore_secrets(function_from_dict(body, "it"), stored))


@pytest.mark.parametrize("show_values", [True, False])
def test_an_unchanged_object_that_is_sent_back_changes_nothing(show_values: bool) -> None:
    assert sent_back(show_values=show_values) == to_dict(function_from_dict(STORED, "it"))


def test_no_secret_was_shown() -> None:
    shown = str(redact_values(to_dict(function_from_dict(STORED, "it")), show_values=True))
    for secret in SECRETS:
        assert secret not in shown
    assert "p1" in shown
    assert "p1" not in str(
        redact_values(to_dict(function_from_dict(STORED, "it")), show_values=False)
    )


def test_new_values_replace_stored_ones() -> None:
    env = [{"name": "API_KEY", "value": "k2"}, {"name": "OTHER_KEY", "value": ""}]
    assert sent_back(env=env)["spec"]["env"] == [
        {"name": "API_KEY", "value": "k2"},
        {"name": "OTHER_KEY"},
    ]
    queue = {"kind": "rabbit-mq", "name": "queue", "url": "amqp://other", "password": "t2"}
    stored = sent_back(triggers={"queue": queue})["spec"]["triggers"]["queue"]
    assert (stored["url"], stored["password"]) == ("amqp://other", "t2")


def test_values_in_lists_are_restored_with_their_item() -> None:
    queue = redact_values(STORED, show_values=False)["spec"]["triggers"]["queue"]
    attributes = {**queue["attributes"], "list": [{"host": "c"}, {"host": "b"}]}
    stored = sent_back(triggers={"queue": {**queue, "attributes": attributes}})
    assert stored["spec"]["triggers"]["queue"]["attributes"] == {
        **STORED["spec"]["triggers"]["queue"]["attributes"],
        "list": [{"host": "c"}, {"host": "b", "password": "l2"}],
    }


def test_omitted_fields_are_removed() -> None:
    stored = sent_back(env=[], triggers={}, sidecars=[])
    assert not {"env", "triggers", "sidecars"} & set(stored["spec"])
    assert "s3cret" in stored["spec"]["build"]["path"]


@pytest.mark.parametrize("stored", [None, function_from_dict(STORED, "it")])
def test_the_mask_itself_is_not_a_value(stored: Any) -> None:
    raw = {
        "metadata": {"name": "it"},
        "spec": {"env": [{"name": "NEW_KEY", "value": "[redacted]"}]},
    }
    with pytest.raises(UsageError, match="NEW_KEY"):
        restore_secrets(function_from_dict(raw, "it"), stored)


@pytest.mark.parametrize("show_values", [True, False])
def test_references_to_the_functions_own_secret_are_shown_as_values(show_values: bool) -> None:
    reference = {"secretKeyRef": {"name": "nuclio-it.env", "key": "API_KEY.0123456789abcdef"}}
    other = {"secretKeyRef": {"name": "mine", "key": "k"}}
    env = [{"name": "API_KEY", "valueFrom": reference}, {"name": "OTHER", "valueFrom": other}]
    stored = function_from_dict({"metadata": {"name": "it"}, "spec": {"env": env}}, "it")
    shown = redact_values(to_dict(stored), show_values=show_values)
    assert shown["spec"]["env"] == [{"name": "API_KEY", "value": "[redacted]"}, env[1]]
    assert to_dict(restore_secrets(function_from_dict(shown, "it"), stored))["spec"]["env"] == env
    shown["spec"]["env"][0]["value"] = "new"
    again = to_dict(restore_secrets(function_from_dict(shown, "it"), stored))["spec"]["env"]
    assert again == [{"name": "API_KEY", "value": "new"}, env[1]]
