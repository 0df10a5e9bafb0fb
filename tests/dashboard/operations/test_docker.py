"""Functions on a container engine through the API: built from code, run from images, killed."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver
from tests.dashboard.calls import (
    IGNORE_STATE,
    WAIT,
    deployed,
    function,
    inline,
    invoked,
    operation,
    settled,
    status,
)
from tests.dashboard.conftest import Dashboard, environment, new_data_dir, running
from tests.dashboard.waiting import until
from tests.engine import EngineResources, call, engine_resources, require_engine, require_image

pytestmark = pytest.mark.system

ROUNDS = 4
LONGEST = 4.0
CODE = """\
import os


def handler(context, event):
    return "it says " + os.environ.get("WORD", "nothing")
"""


@dataclass
class Machine:
    """A container engine with a separate namespace, and dashboards that deploy to it."""

    resources: EngineResources
    data_dir: Path
    namespace: str
    config: Path
    image: str

    def dashboard(self) -> AbstractContextManager[Dashboard]:
        return running(
            self.data_dir,
            "--config",
            str(self.config),
            env={"NUCLIO_DASHBOARD_NAMESPACE": self.namespace},
        )

    def of_image(self, name: str, word: str) -> dict[str, Any]:
        """Return the body of a function that runs from the image and replies with a word."""
        return {
            "metadata": {"name": name},
            "spec": {
                "handler": "main:handler",
                "runtime": "python:3.11",
                "image": self.image,
                "env": [{"name": "WORD", "value": word}],
                "build": {"codeEntryType": "image"},
            },
        }

    def containers(self) -> list[str]:
        named = f"name={self.namespace}"
        listed = call(
            self.resources.engine, "ps", "--all", "--filter", named, "--format", "{{.Names}}"
        )
        return listed.split()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, fetched: Path) -> Iterator[Machine]:
    engine = require_engine()
    require_image(engine)
    home = tmp_path_factory.mktemp("machine")
    config = home / "dashboard.yaml"
    config.write_text("platform: local\nplatforms: [local]\nnoPull: true\n")
    with engine_resources(engine) as resources:
        image = resources.image("built", tag="latest")
        namespace = resources.name("ns")
        yield Machine(resources, new_data_dir(home, fetched), namespace, config, image)


@pytest.fixture(scope="module")
def built(machine: Machine) -> Machine:
    """The machine with the image, which a dashboard built from code."""
    with machine.dashboard() as dashboard:
        body = inline("built", CODE)
        body["spec"]["build"] |= {
            "image": machine.image.partition(":")[0],
            "baseImage": "python:3.11",
        }
        assert dashboard.request("POST", "/api/functions", json=body).status == 202
        assert status(dashboard, "built")["state"] == "building"
        final_status = settled(dashboard, "built")
        assert final_status["state"] == "ready", final_status
        assert invoked(dashboard, "built") == "it says nothing"
        lines = [entry["message"] for entry in operation(dashboard, "built")["lines"]]
        assert any(line.startswith("  ") for line in lines), "what the steps wrote is told"
        assert function(dashboard, "built")["spec"]["image"] == machine.image
        assert dashboard.request("DELETE", "/api/functions/built").status == 204
    return machine


def test_a_failed_build_is_an_error_with_the_output_of_its_step(machine: Machine) -> None:
    with machine.dashboard() as dashboard:
        body = inline("unbuilt", CODE)
        body["spec"]["build"] |= {
            "image": machine.resources.name("unbuilt"),
            "baseImage": "python:3.11",
            "commands": ["echo it stops here && false"],
        }
        dashboard.request("POST", "/api/functions", json=body)
        final_status = settled(dashboard, "unbuilt")
        assert final_status["state"] == "error"
        assert "false" in final_status["message"]
        assert any("it stops here" in log["message"] for log in final_status["logs"])
        assert "unbuilt" in dashboard.request("GET", "/api/functions").json
        assert dashboard.request("DELETE", "/api/functions/unbuilt").status == 204
        assert dashboard.request("GET", "/api/functions/unbuilt").status == 404


def test_the_state_matches_the_containers_whenever_the_dashboard_is_killed(built: Machine) -> None:
    chance = random.Random(20261120)
    texts = {"it says nothing yet"}
    for round_ in range(ROUNDS):
        with built.dashboard() as dashboard:
            if round_ == 0:
                deployed(dashboard, built.of_image("often", "nothing yet"))
            check(dashboard, texts)
            body = built.of_image("often", f"round {round_}")
            answer = dashboard.request("PUT", "/api/functions", json=body)
            assert answer.status == 202, answer.text
            texts.add(f"it says round {round_}")
            time.sleep(chance.uniform(0, LONGEST))
            dashboard.kill()
    with built.dashboard() as dashboard:
        check(dashboard, texts)
        body = built.of_image("often", "at last")
        answer = dashboard.request("PUT", "/api/functions", json=body, headers=WAIT)
        assert answer.status == 202, answer.text
        assert status(dashboard, "often")["state"] == "ready", status(dashboard, "often")
        until(lambda: invoked(dashboard, "often") == "it says at last", "the new answer")
        assert len(built.containers()) == 1
        dashboard.request("DELETE", "/api/functions/often", headers=IGNORE_STATE)
        assert built.containers() == []


def check(dashboard: Dashboard, texts: set[str]) -> None:
    """Check that the function serves old or new code, or that its status is an error."""
    final_status = settled(dashboard, "often")
    assert operation(dashboard, "often")["state"] in ("done", "failed")
    if final_status["replicas"]["available"]:
        assert invoked(dashboard, "often") in texts
    else:
        assert final_status["state"] in ("error", "unhealthy"), final_status
    assert "often" in dashboard.request("GET", "/api/functions").json


# The command line with the platform nuclio


def test_the_command_line_deploys_through_a_dashboard(built: Machine) -> None:
    with built.dashboard() as dashboard:

        def run(*arguments: str, token: str = dashboard.token) -> subprocess.CompletedProcess[str]:
            surroundings = environment(
                built.data_dir, FNBUILD_NUCLIO_URL=dashboard.url, FNBUILD_NUCLIO_TOKEN=token
            )
            place = ("--platform", "nuclio", "-n", built.namespace)
            return forkserver.run([*arguments, *place], surroundings, timeout=300)

        def done(*arguments: str) -> str:
            ended = run(*arguments)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            return ended.stdout

        command = ("deploy", "through", "--run-image", built.image, "--handler", "main:handler")
        refused = run(*command, token="wrong")
        assert refused.returncode == 1
        assert "FNBUILD_NUCLIO_TOKEN" in refused.stderr
        done(*command, "--env", "WORD=one")
        assert invoked(dashboard, "through") == "it says one"
        done(*command, "--env", "WORD=two")
        until(lambda: invoked(dashboard, "through") == "it says two", "the second word")
        assert "through" in done("get", "functions")
        assert "it says two" in done("invoke", "through")
        assert "ready" in done("get", "function", "through")
        failed = run(*command, "--env", "WORD=three", "--handler", "main:missing")
        assert failed.returncode == 1
        assert "missing" in failed.stderr
        assert "goes on serving" in failed.stderr
        assert invoked(dashboard, "through") == "it says two"
        done("redeploy", "through")
        done(*command, "--disable")
        assert "standby" in done("get", "function", "through")
        done("create", "project", "through-it")
        assert "through-it" in done("get", "projects")
        done("delete", "project", "through-it")
        done("delete", "function", "through")
        assert dashboard.request("GET", "/api/functions/through").status == 404
