"""What leaves this machine is without secrets."""

import json
from typing import Any

import pytest

from fnbuild.deploy import export
from fnbuild.spec.reader import from_raw
from fnbuild.spec.secrets import for_readers, has_credentials, looks_secret, without_secrets

RAW: dict[str, Any] = {
    "metadata": {"name": "f"},
    "spec": {
        "env": [{"name": "KEPT", "value": "v"}],
        "triggers": {
            "web": {"kind": "http", "password": "s3cret", "secret": "s3cret", "numWorkers": 2},
            "topic": {
                "kind": "kafka-cluster", "url": "kafka://me:s3cret@broker:9092",
                "attributes": {
                    "topics": ["a"], "accessKey": "s3cret",
                    "sasl": {
                        "user": "me", "password": "s3cret", "oauth": {"clientSecret": "s3cret"}
                    },
                },
            },
            "night": {"kind": "cron", "attributes": {"event": {"body": {"password": "kept"}}}},
        },
        "build": {
            "path": "https://me:s3cret@example.com/x.git",
            "codeEntryType": "git",
            "codeEntryAttributes": {
                "branch": "main", "username": "s3cret", "Password": "s3cret",
                "headers": {"Authorization": "s3cret"}, "s3AccessKeyId": "s3cret",
                "s3SecretAccessKey": "s3cret", "s3SessionToken": "s3cret", "workDir": "fn",
            },
        },
    },
}  # fmt: skip


def test_without_secrets() -> None:
    before = json.dumps(RAW)
    plain = without_secrets(RAW)
    assert "s3cret" not in json.dumps(plain)
    assert plain["spec"]["build"] == {
        "path": "https://example.com/x.git",
        "codeEntryType": "git",
        "codeEntryAttributes": {"branch": "main", "workDir": "fn"},
    }
    assert plain["spec"]["triggers"] == {
        "web": {"kind": "http", "numWorkers": 2},
        "topic": {
            "kind": "kafka-cluster",
            "url": "kafka://broker:9092",
            "attributes": {"topics": ["a"], "sasl": {"user": "me", "oauth": {}}},
        },
        "night": RAW["spec"]["triggers"]["night"],
    }
    assert plain["spec"]["env"] == RAW["spec"]["env"]
    assert json.dumps(RAW) == before


def test_what_has_none() -> None:
    some: tuple[dict[str, Any], ...] = (
        {},
        {"metadata": {}},
        {"spec": {}},
        {"spec": {"build": {}, "triggers": {}}},
    )
    for raw in some:
        assert without_secrets(raw) == raw


def test_exports_have_none() -> None:
    function = from_raw(RAW, "here")
    assert "s3cret" not in json.dumps(export(function))
    assert "s3cret" in json.dumps(export(function, scrub=False))


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASS",
        "PASS",
        "PGPASS",
        "PWD_DB",
        "accessToken",
        "HFTOKEN",
        "TOKEN_GITHUB",
        "GITHUB_PAT",
        "SIGNING_KEY",
        "AUTHORIZATION",
        "ENCRYPTION_KEY",
        "SSH_KEY",
        "API_KEY",
        "DB_PASSWORD",
        "HF_TOKENIZER_TOKEN",
        "X-Api-Key",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "TOKENIZER",
        "MAX_TOKENS",
        "MAX_NEW_TOKENS",
        "maxTokens",
        "TOKEN_LIMIT",
        "BYPASS",
        "COMPASS_X",
        "PATTERN",
        "PATH",
        "KEY_POINTS",
        "MONKEY",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


def test_addresses_with_credentials() -> None:
    for value in ("postgres://u:PW@h/db", "redis://:PW@h", "amqp://u:P/W@h", "https://tok@h/x"):
        assert has_credentials(value)
    for value in ("https://h/x", "https://h/a@v1", "https://h:80/x", "me@example.com"):
        assert not has_credentials(value)


def test_attributes_of_brokers_have_none() -> None:
    attributes = {
        "list": [{"password": "s3cret", "host": "h"}],
        "url": "amqp://me:s3cret@queue",
        "more": ["amqp://me:s3cret@other"],
    }
    raw = {"spec": {"triggers": {"q": {"kind": "rabbit-mq", "attributes": attributes}}}}
    assert without_secrets(raw)["spec"]["triggers"]["q"]["attributes"] == {
        "list": [{"host": "h"}],
        "url": "amqp://queue",
        "more": ["amqp://other"],
    }


RUNNING: dict[str, Any] = {
    "spec": {
        "triggers": {
            "night": {
                "kind": "cron",
                "attributes": {
                    "interval": "1h",
                    "event": {
                        "headers": {"Authorization": "s3cret", "X-Api-Key": "s3cret", "X-On": "1"},
                        "body": {"max_tokens": 5},
                    },
                },
            },
            "web": {
                "kind": "http",
                "attributes": {
                    "port": 1,
                    "password": "s3cret",
                    "cors": {"allowCredentials": True},
                    "ingresses": {"0": {"host": "h", "secretName": "tls"}},
                },
            },
        },
        "dataBindings": {"db": {"class": "v3io", "secret": "s3cret"}},
        "volumes": [
            {"volume": {"name": "f", "flexVolume": {
                "driver": "d", "secretRef": {"name": "r"}, "options": {"accessKey": "s3cret"}}}},
            {"volume": {"name": "s", "secret": {"secretName": "kept"}}},
        ],
        "platform": {"attributes": {"restartPolicy": {"name": "always"}, "password": "s3cret"}},
        "runtimeAttributes": {"password": "s3cret", "level": 1},
        "build": {
            "path": "https://h/x.zip?token=s3cret&s3cret#sha256=ab",
            "runtimeAttributes": {"password": "s3cret", "repositories": ["r"]},
        },
    }
}  # fmt: skip


def test_readers_get_none_that_a_function_needs() -> None:
    before = json.dumps(RUNNING)
    spec = for_readers(RUNNING)["spec"]
    assert json.dumps(RUNNING) == before
    assert spec["triggers"]["night"]["attributes"] == {
        "interval": "1h",
        "event": {"headers": {"X-On": "1"}, "body": {"max_tokens": 5}},
    }
    assert spec["triggers"]["web"]["attributes"] == {
        "port": 1,
        "cors": {"allowCredentials": True},
        "ingresses": {"0": {"host": "h", "secretName": "tls"}},
    }
    assert spec["dataBindings"] == {"db": {"class": "v3io"}}
    flex = {"driver": "d", "secretRef": {"name": "r"}, "options": {}}
    assert spec["volumes"][0]["volume"] == {"name": "f", "flexVolume": flex}
    assert spec["volumes"][1] == RUNNING["spec"]["volumes"][1]
    assert spec["platform"] == {"attributes": {"restartPolicy": {"name": "always"}}}
    assert spec["runtimeAttributes"] == {"level": 1}
    assert spec["build"] == {
        "path": "https://h/x.zip?token=…&…#sha256=ab",
        "runtimeAttributes": {"repositories": ["r"]},
    }


def test_what_a_function_needs_stays_stored() -> None:
    stored = without_secrets(RUNNING)["spec"]
    assert stored["triggers"]["night"] == RUNNING["spec"]["triggers"]["night"]
    assert stored["build"]["path"] == RUNNING["spec"]["build"]["path"]
    assert stored["volumes"] == RUNNING["spec"]["volumes"]
