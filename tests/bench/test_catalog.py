"""The measured servers and the workloads."""

from __future__ import annotations

import io
import json
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

from bench import catalog, workloads

pytestmark = pytest.mark.system


def test_every_server_has_an_environment_and_its_program() -> None:
    catalogue = catalog.load_catalog()
    apps = {path.name for path in (catalog.FOLDER / "apps").iterdir()}
    for server in catalogue.servers.values():
        assert server.environment in catalogue.environments
        for part in server.command:
            if "{apps}/" in part:
                assert Path(part).name in apps
            if part.endswith((":app", ":Bench")):
                assert part.partition(":")[0] + ".py" in apps


def test_releases_are_pinned() -> None:
    for environment in catalog.load_catalog().environments.values():
        assert all("==" in requirement for requirement in environment.requirements)


def test_the_limit_is_always_selected() -> None:
    assert [server.name for server in catalog.choose_servers("flask,fnbuild")] == [
        "limit", "fnbuild", "flask",
    ]  # fmt: skip


def test_an_unknown_name_is_an_error_that_lists_the_known_names() -> None:
    with pytest.raises(catalog.UnknownNameError, match=r"no such server: flusk .*flask"):
        catalog.choose_servers("flusk")
    with pytest.raises(catalog.UnknownNameError, match=r"no such workload: ecco .*echo"):
        workloads.choose_workloads("ecco")


def test_the_echo_reply_is_the_request_body_of_a_kilobyte() -> None:
    workload = workloads.make_workload("echo", Path(sys.executable))
    assert {len(payload.body) for payload in workload.payloads} == {1024}
    assert [json.loads(payload.body) for payload in workload.payloads] == [
        payload.expected for payload in workload.payloads
    ]
    assert workload.body_file.read_bytes() == workload.payloads[0].body


@pytest.mark.parametrize("name", ["jpeg", "jpeg-vision"])
def test_the_picture_has_its_size_and_each_variant_its_own_reply(name: str) -> None:
    workload = workloads.make_workload(name, Path(sys.executable))
    first = b64decode(json.loads(workload.payloads[0].body)["image"])
    assert 190_000 < len(first) < 210_000
    assert Image.open(io.BytesIO(first)).size == (1280, 720)
    assert workload.payloads[0].expected == {"shape": [720, 1280, 3]}
    answers = [json.dumps(payload.expected) for payload in workload.payloads]
    assert len(set(answers)) == len(answers)
