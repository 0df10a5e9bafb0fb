"""Create a function for each module on a server, and process its requests: HOST PORT MODULE..."""

import os
import sys

from cvat_cli.__main__ import main

if __name__ == "__main__":
    host, port, *modules = sys.argv[1:]
    server = ["--server-host", host, "--server-port", port, "function"]
    for number, module in enumerate(modules, 1):
        source = ["--function-file", os.path.abspath(module)]
        assert not main([*server, "create-native", f"f{number}", *source])
        assert not main([*server, "run-agent", str(number), "--burst", *source])
