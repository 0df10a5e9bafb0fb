"""Run a processor: `python -m fnbuild.runtime.processor --config FILE`."""

import sys

from .processor import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
