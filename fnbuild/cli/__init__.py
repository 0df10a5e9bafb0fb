"""The command line: nuctl's verbs and fnbuild's own. `main` is the program `fnbuild`."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""The exit status that shells give to what Ctrl-C has ended."""


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    try:
        # In here, for Ctrl-C may come while the modules are read.
        from fnbuild.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
