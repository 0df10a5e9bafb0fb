"""The command line: nuctl's verbs and fnbuild's own. `main` is the program `fnbuild`."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    import sys

    from fnbuild.cli.app import run

    sys.exit(run(sys.argv[1:]))
