"""Command lines for the platform, as the articles about KServe have them."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fnbuild.cli.app import run
from tests.containers.conftest import PROGRAM


class Shell:
    """Runs command lines in a namespace. `messages` are those of the last one on stderr."""

    def __init__(self, namespace: str, capsys: Any):
        self.namespace = namespace
        self.messages = ""
        self._capsys = capsys

    @property
    def _options(self) -> tuple[str, ...]:
        return ("--platform", "kserve", "-n", self.namespace)

    def __call__(self, *arguments: object) -> str:
        """Run a command line; return what it prints."""
        status, output = self._run(*arguments)
        assert status == 0, self.messages
        return output

    def fails(self, *arguments: object) -> str:
        """Run a command line that fails; return its messages."""
        status, _ = self._run(*arguments)
        assert status == 1, self.messages
        return self.messages

    def _run(self, *arguments: object) -> tuple[int, str]:
        self._capsys.readouterr()
        status = run([*map(str, arguments), *self._options])
        output = self._capsys.readouterr()
        self.messages = output.err
        return status, output.out

    @contextmanager
    def forwarded_port(self, name: str, ports: str) -> Iterator[str]:
        """Run `fnbuild port-forward` during the block; yield the local URL."""
        command = [PROGRAM, "port-forward", name, ports, *self._options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                [url] = re.findall(r"http://\S+", process.stdout.readline())
                yield url
            finally:
                process.send_signal(signal.SIGINT)
