"""The command line: nuctl's verbs and fnbuild's own. `main` is the program `fnbuild`."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` ignores SIGHUP.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        # Imported here, since Ctrl-C may arrive during the import.
        from fnbuild.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = 128 + signal.SIGINT
    sys.exit(status)


def _interrupt(*_: object) -> NoReturn:
    # Exit as after Ctrl-C, with the same cleanup.
    raise KeyboardInterrupt
