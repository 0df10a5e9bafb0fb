"""The command line: nuctl's verbs and fnbuild's own. `main` is the program `fnbuild`."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

INTERRUPTED = 130
"""The exit status that shells give to what Ctrl-C has ended."""


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` has the second one ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        # In here, for Ctrl-C may come while the modules are read.
        from fnbuild.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)


def _interrupt(*_: object) -> NoReturn:
    # The same way out as Ctrl-C: nothing is left behind, and what served goes on.
    raise KeyboardInterrupt
