"""Functions for git hold no value of a variable that looks like a secret, in any field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnbuild.function.secret_references import SecretReferences
from fnbuild.function.types import Raw

pytestmark = pytest.mark.system

NAMES = st.sampled_from(["PASSWORD", "API_KEY", "AUTH_TOKEN", "db_passwd", "AWS_SECRET"])
VALUES = st.text("xyz", min_size=1, max_size=3).map("hidden-{}".format)
HIDDEN = st.builds(lambda name, value: {"name": name, "value": value}, NAMES, VALUES)
OPEN = st.sampled_from(
    [
        {"name": "MODEL", "value": "small"},
        {"name": "MAX_TOKENS", "value": "9"},
        {"name": "PAGE", "value": "https://example.org/a@b"},
        {"name": "PASSWORD", "value": ""},
        {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
    ]
)
VARIABLES = st.lists(st.one_of(HIDDEN, OPEN), max_size=5)
CONTAINERS = st.lists(
    st.builds(
        lambda name, env: {"name": name, "image": "a", "env": env},
        st.sampled_from(["one", "two"]),
        VARIABLES,
    ),
    max_size=2,
    unique_by=lambda item: item["name"],
)


@given(env=VARIABLES, before=CONTAINERS, sidecars=CONTAINERS)
def test_all_secret_values_and_nothing_else_are_replaced(
    env: list[Any], before: list[Any], sidecars: list[Any]
) -> None:
    raw: Raw = {
        "spec": {"env": env, "initContainers": before, "sidecars": sidecars, "minReplicas": 1}
    }
    text = json.dumps(raw)
    references = SecretReferences("nuclio-f")
    replaced = references.replace_secrets(raw)
    assert "hidden" not in json.dumps(replaced)
    assert json.dumps(raw) == text
    assert bool(references.keys) == ("hidden" in text)
    assert replaced["spec"]["minReplicas"] == 1
    for kind in ("initContainers", "sidecars"):
        for was, now in zip(raw["spec"][kind], replaced["spec"][kind], strict=True):
            same_but_hidden(was["env"], now["env"], references)
    same_but_hidden(env, replaced["spec"]["env"], references)


def same_but_hidden(was: list[Any], now: list[Any], references: SecretReferences) -> None:
    for before, after in zip(was, now, strict=True):
        if "hidden" in str(before.get("value")):
            reference = after["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "nuclio-f"
            assert reference["key"] in references.keys
            assert after.keys() == {"name", "valueFrom"}
        else:
            assert after == before


def test_each_value_has_a_key() -> None:
    side = {
        "name": "side",
        "env": [{"name": "TOKEN", "value": "b"}, {"name": "SIZE", "value": "a"}],
    }
    raw: Raw = {"spec": {"env": [{"name": "TOKEN", "value": "a"}], "sidecars": [side]}}
    references = SecretReferences("s")
    replaced = references.replace_secrets(raw)
    assert references.keys == ("TOKEN", "side.TOKEN")
    assert replaced["spec"]["sidecars"][0]["env"][1] == {"name": "SIZE", "value": "a"}


def test_urls_with_a_password_and_build_arguments() -> None:
    raw: Raw = {
        "spec": {
            "env": [{"name": "DATABASE", "value": "postgres://me:hidden@db/x"}],
            "build": {"args": {"TOKEN": "hidden", "SIZE": "1"}},
        }
    }
    references = SecretReferences("s")
    replaced = references.replace_secrets(raw)
    assert references.keys == ("DATABASE",)
    assert replaced["spec"]["build"]["args"] == {"SIZE": "1"}
