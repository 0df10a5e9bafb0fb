"""Data that leaves this machine has no secrets."""

import json
from typing import Any

from fnbuild.deploy.exports import export_configuration
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import (
    REDACTED,
    mask_values,
    mask_variables,
    redact_except_variables,
    secret_values,
    without_access_credentials,
)

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


def test_without_access_credentials() -> None:
    before = json.dumps(RAW)
    plain = without_access_credentials(RAW)
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


def test_configuration_without_secrets() -> None:
    some: tuple[dict[str, Any], ...] = (
        {},
        {"metadata": {}},
        {"spec": {}},
        {"spec": {"build": {}, "triggers": {}}},
    )
    for raw in some:
        assert without_access_credentials(raw) == raw


def test_exports_have_no_secrets() -> None:
    function = function_from_dict(RAW, "here")
    assert "s3cret" not in json.dumps(export_configuration(function))
    assert "s3cret" in json.dumps(export_configuration(function, scrub=False))


def test_the_key_of_a_client_certificate_is_a_secret() -> None:
    attributes = {"branch": "main", "clientCert": "public", "clientKey": "s3cret", "caBundle": "c"}
    build = {"codeEntryType": "git", "codeEntryAttributes": attributes}
    raw = {"metadata": {"name": "f"}, "spec": {"build": build}}
    cleaned = without_access_credentials(raw)["spec"]["build"]["codeEntryAttributes"]
    assert cleaned == {"branch": "main", "clientCert": "public", "caBundle": "c"}
    assert "s3cret" not in json.dumps(export_configuration(function_from_dict(raw, "here")))


def test_attributes_of_brokers_have_no_secrets() -> None:
    attributes = {
        "list": [{"password": "s3cret", "host": "h"}],
        "url": "amqp://me:s3cret@queue",
        "more": ["amqp://me:s3cret@other"],
    }
    raw = {"spec": {"triggers": {"q": {"kind": "rabbit-mq", "attributes": attributes}}}}
    assert without_access_credentials(raw)["spec"]["triggers"]["q"]["attributes"] == {
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


def test_secrets_that_a_function_needs_are_hidden_from_readers() -> None:
    before = json.dumps(RUNNING)
    spec = redact_except_variables(RUNNING)["spec"]
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


def test_required_values_stay_stored() -> None:
    stored = without_access_credentials(RUNNING)["spec"]
    assert stored["triggers"]["night"] == RUNNING["spec"]["triggers"]["night"]
    assert stored["build"]["path"] == RUNNING["spec"]["build"]["path"]
    assert stored["volumes"] == RUNNING["spec"]["volumes"]


FULL: dict[str, Any] = {
    "metadata": {
        "name": "f",
        "annotations": {"fnbuild.io/secret-env": "PLAIN2", "api-key": "s3cret", "type": "detector",
                        "docs": "https://me:s3cret@h/x"},
    },
    "spec": {
        "env": [
            {"name": "PLAIN", "value": "visible"},
            {"name": "PLAIN2", "value": "declared-one"},
            {"name": "OPENAI_KEY", "value": "s3cret-value"},
            {"name": "EMPTY", "value": ""},
            {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "sidecars": [{"name": "side", "env": [{"name": "A", "value": "b"}],
                      "args": ["--token", "x", "--token=s3cret"]}],
        "build": {
            "commands": ["pip install --index-url https://me:s3cret@h/simple x",
                         "export API_KEY=s3cret && run --password s3cret; echo $API_KEY"],
            "directives": {"preCopy": [{"kind": "ENV", "value": "HF_TOKEN s3cret"},
                                       {"kind": "RUN", "value": "apt-get install -y x"}]},
            "args": {"TOKEN": "s3cret", "SIZE": "3"},
        },
    },
}  # fmt: skip


def test_values_of_variables() -> None:
    before = json.dumps(FULL)
    every = mask_variables(FULL, secrets_only=False)["spec"]
    assert [variable.get("value") for variable in every["env"]] == [REDACTED] * 3 + ["", None]
    assert every["env"][4] == FULL["spec"]["env"][4]
    assert every["sidecars"][0]["env"] == [{"name": "A", "value": REDACTED}]
    some = mask_variables(FULL, secrets_only=True)["spec"]
    assert [variable.get("value") for variable in some["env"]] == [
        "visible",
        REDACTED,
        REDACTED,
        "",
        None,
    ]
    assert some["sidecars"][0]["env"] == [{"name": "A", "value": "b"}]
    assert json.dumps(FULL) == before


def test_commands_and_annotations_for_readers() -> None:
    before = json.dumps(FULL)
    shown = mask_variables(redact_except_variables(FULL), secrets_only=True)
    assert json.dumps(FULL) == before
    assert "s3cret" not in json.dumps(shown)
    build = shown["spec"]["build"]
    assert build["commands"] == [
        "pip install --index-url https://[redacted]@h/simple x",
        "export API_KEY=[redacted] && run --password [redacted]; echo $API_KEY",
    ]
    assert build["directives"]["preCopy"] == [
        {"kind": "ENV", "value": "HF_TOKEN [redacted]"},
        {"kind": "RUN", "value": "apt-get install -y x"},
    ]
    assert build["args"] == {"TOKEN": REDACTED, "SIZE": "3"}
    assert shown["metadata"]["annotations"] == {
        "fnbuild.io/secret-env": "PLAIN2",
        "api-key": REDACTED,
        "type": "detector",
        "docs": "https://h/x",
    }


def test_texts_about_a_function() -> None:
    values = secret_values(FULL)
    assert sorted(values) == ["declared-one", "s3cret-value"]
    text = mask_values("KeyError: 's3cret-value' and declared-one, not visible", values)
    assert text == "KeyError: '[redacted]' and [redacted], not visible"
