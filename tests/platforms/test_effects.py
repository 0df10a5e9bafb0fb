"""Keys without effect on the platforms without a cluster."""

from __future__ import annotations

import pytest

from fnbuild.platforms.effects import without_cluster
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Raw


def warnings_for(**spec: Raw) -> tuple[str, ...]:
    return without_cluster(from_raw({"spec": spec}, "test"), "process", {}, ())


def test_the_flush_period_of_a_stream_is_reported() -> None:
    web = {"kind": "http", "attributes": {"streamingFlushPeriod": "100ms"}}
    (text,) = warnings_for(triggers={"web": web})
    key = "triggers.web.attributes.streamingFlushPeriod"
    assert text == f"without effect on the process platform: {key}"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_flush_period_is_not_reported(value: object) -> None:
    web = {"kind": "http", "attributes": {"streamingFlushPeriod": value, "port": 8080}}
    assert warnings_for(triggers={"web": web}) == ()


def test_hardening_of_pods_is_reported() -> None:
    (text,) = warnings_for(platform={"attributes": {"hardened": True}})
    assert text == "without effect on the process platform: platform.attributes.hardened"


def test_unused_attributes_of_http_triggers_are_reported() -> None:
    web = {"kind": "http", "attributes": {"reduceMemoryUsage": True}}
    (text,) = warnings_for(triggers={"web": web})
    assert text.endswith("triggers.web.attributes.reduceMemoryUsage")
