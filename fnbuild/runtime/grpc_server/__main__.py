"""The program of the gRPC server: `python -IS __main__.py PACKAGES MAX_MESSAGE`.

PACKAGES is the folder with grpcio and protobuf, which no other process has on its path, MAX_MESSAGE
the largest message in bytes. This Python runs without site-packages, which belong to the handler.
"""

import os
import sys


def _run() -> int:
    # Virtual environments of virtualenv before 20 only find the standard library by their site
    # module.
    if os.path.exists(os.path.join(os.path.dirname(os.__file__), "orig-prefix.txt")):
        import site

        site.main()
    folder = os.path.abspath(__file__)
    for _ in range(4):
        folder = os.path.dirname(folder)
    sys.path[:0] = [sys.argv[1], folder]
    from fnbuild.runtime.grpc_server.channel import MISSING_STATUS

    try:
        from fnbuild.runtime.grpc_server.server import main
    except ImportError as error:
        sys.stderr.write("%s\n" % error)
        return MISSING_STATUS
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(_run())
