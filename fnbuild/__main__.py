"""`python -m fnbuild` is the `fnbuild` command."""

from fnbuild.cli import main

if __name__ == "__main__":
    main()
