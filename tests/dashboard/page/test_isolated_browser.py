"""The browser of these tests reaches only loopback, and leaves no process."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from tests.dashboard.conftest import Dashboard
from tests.dashboard.page import isolated_browser
from tests.dashboard.waiting import until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not isolated_browser.can_isolate(), reason="this user may not create a network namespace"
    ),
]


def test_only_loopback_is_reachable(browser: Browser, dashboard: Dashboard) -> None:
    page = browser.new_page()
    try:
        answer = page.goto(dashboard.url)
        assert answer is not None
        assert answer.ok
        assert page.evaluate("navigator.onLine") is False
        # A port with a listener, at an address of this machine that is not loopback.
        with socket.create_server(("0.0.0.0", 0)) as here, pytest.raises(Error, match="ERR_SOCKS"):
            page.goto(f"http://127.0.0.2:{here.getsockname()[1]}/")
    finally:
        page.close()


def test_no_process_is_left(tmp_path: Path) -> None:
    """A script replaces Chromium, and reports its namespace and its child."""
    script = tmp_path / "browser"
    script.write_text(
        "#!/bin/sh\nreadlink /proc/self/ns/net\n"
        "read -r child others </proc/$$/task/$$/children\necho $child\nread -r line\n"
    )
    script.chmod(0o755)
    command = isolated_browser.launcher(script, tmp_path)
    here = os.readlink("/proc/self/ns/net")
    with subprocess.Popen([command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        where, child = (process.stdout.readline().decode().strip() for _ in range(2))
        outside = Path("/proc", child)
        assert where.startswith("net:")
        assert where != here
        assert os.readlink(outside / "ns" / "net") == here
        process.kill()
    until(lambda: not outside.exists(), "the child has ended with the browser")
