"""The script that starts a worker process.

It loads the runtime from its own folder without adding that to the handler's sys.path, so that a
handler's `http.py` or `config.py` cannot shadow a module of the runtime.
"""

import sys


def _load_package() -> None:
    import os
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    here = os.path.dirname(os.path.abspath(__file__))
    # Python put the script's folder first (unless PYTHONSAFEPATH is set).
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]
    folder = os.path.dirname(here)
    path = os.path.join(folder, "__init__.py")
    spec = spec_from_file_location(
        "fnbuild",
        path,
        loader=SourceFileLoader("fnbuild", path),
        submodule_search_locations=[folder],
    )
    if spec is None or spec.loader is None:
        raise SystemExit("%s cannot be loaded" % path)
    package = module_from_spec(spec)
    sys.modules["fnbuild"] = package
    spec.loader.exec_module(package)


# multiprocessing imports this file again in the processes that a handler spawns: they may use
# fnbuild.vision like the handler itself, but are no workers.
if __name__ in ("__main__", "__mp_main__"):
    _load_package()
if __name__ == "__main__":
    from fnbuild.runtime.worker.entry import main

    main(sys.argv[1:])
