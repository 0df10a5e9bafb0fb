"""What leaves this machine is without secrets."""

import json

from fnbuild.deploy import export
from fnbuild.spec.reader import from_raw
from fnbuild.spec.secrets import without_secrets

RAW = {
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
    for raw in ({}, {"metadata": {}}, {"spec": {}}, {"spec": {"build": {}, "triggers": {}}}):
        assert without_secrets(raw) == raw


def test_exports_have_none() -> None:
    function = from_raw(RAW, "here")
    assert "s3cret" not in json.dumps(export(function))
    assert "s3cret" in json.dumps(export(function, scrub=False))
