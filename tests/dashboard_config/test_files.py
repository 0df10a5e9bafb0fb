"""The configuration file and the systemd unit, tested without an installation."""

from __future__ import annotations

import configparser
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from fnbuild.dashboard import settings
from fnbuild.dashboard.settings import Settings
from fnbuild.function.types import to_dict
from tests.conftest import ROOT
from tests.dashboard import conftest as dashboards
from tests.dashboard.conftest import Started
from tests.dashboard_config.conftest import CONFIG
from tests.engine import require_program

pytestmark = pytest.mark.system

started, fetched = dashboards.started, dashboards.fetched

UNIT = CONFIG / "systemd" / "fnbuild-dashboard.service"


def _uncommented(text: str) -> str:
    """Return the sample with the keys that are commented out at its end."""
    head, _, tail = text.partition("defaults: {}\n")
    return head + "".join(line.removeprefix("# ") + "\n" for line in tail.splitlines())


def test_the_sample_has_the_default_values() -> None:
    sample = settings.read_options(CONFIG / "dashboard.yaml")
    assert (
        replace(settings.make_settings(sample, settings.DashboardOptions()), library=None)
        == Settings()
    )
    supported = {field.encode_name for field in msgspec.structs.fields(settings.DashboardOptions)}
    flags = {"listen", "open", "health", "readToken"}
    written = yaml.safe_load((CONFIG / "dashboard.yaml").read_text()).keys()
    assert written == supported - flags - {"extra"}


def test_defaults_in_the_samples_are_valid(tmp_path: Path) -> None:
    file = tmp_path / "dashboard.yaml"
    file.write_text(_uncommented((CONFIG / "dashboard.yaml").read_text()))
    for path in (file, CONFIG / "compose" / "cvat.yaml"):
        # Unknown keys of functions are refused.
        defaults = settings.read_options(path).defaults
        assert defaults is not None
        assert to_dict(defaults)["spec"]


def test_a_dashboard_starts_with_the_sample(started: Started) -> None:
    library = str(ROOT / "functions")
    with started("--config", str(CONFIG / "dashboard.yaml"), "--library", library) as dashboard:
        answer = dashboard.request("GET", "/api/library", token=False)
        assert answer.status == 200
        assert answer.json["functions"]


def _unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = require_program("systemd-analyze")
    # systemd requires an existing program.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fnbuild/bin/fnbuild", sys.executable))
    result = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    messages = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert not messages
    assert result.returncode == 0, result.stderr


def test_functions_survive_the_dashboard_that_started_them() -> None:
    service = _unit()["Service"]
    assert service["KillMode"] == "process"
    assert service["Restart"] == "always"
    assert "PrivateTmp" not in service
    # The runtime creates these namespaces for functions.
    assert service["RestrictNamespaces"] == "user mnt"
    command = service["ExecStart"].split()
    help_ = subprocess.run(
        [sys.executable, "-m", "fnbuild", *command[1:2], "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(option in help_ for option in command[1:] if option.startswith("--"))
