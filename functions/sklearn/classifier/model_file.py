"""Models in files of joblib or pickle, which need the versions that wrote them.

A file of another version fails with errors such as `unsupported pickle protocol: 5`, or loads and
predicts nonsense. The versions are therefore read from the file before it is loaded.
"""

import bz2
import gzip
import lzma
import mmap
import pickle
import re
import sys
import zlib

import joblib
import sklearn

PYTHON = "{}.{}".format(*sys.version_info[:2])
# The first Python that writes a pickle protocol.
PYTHON_OF_PROTOCOL = {4: "3.4", 5: "3.8"}
REMEDY = (
    "Deploy this function with the versions of the training as a ServingRuntime of its own "
    "(spec.build of function.yaml, then `fnbuild deploy --platform kserve`), and name it in the "
    "InferenceService: `runtime: NAME`. Or train the model with the versions of this runtime."
)

_COMPRESSIONS = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
    (b"]\x00", lzma.decompress),
    (b"x", zlib.decompress),
)
# The key in the state of each estimator, its place in the pickle's memo, and its value as text.
_SKLEARN_VERSION = re.compile(
    rb"_sklearn_version(?:\x94|q.|r.{4})(?:\x8c.|X.{4})([0-9]+(?:\.[0-9]+)+)", re.DOTALL
)


class ModelError(Exception):
    """The model cannot be served; the message names the file, the cause and the remedy."""


def load_model(path):
    """Return the model in the file. Raises ModelError."""
    protocol, version = read_versions(path)
    if protocol > pickle.HIGHEST_PROTOCOL:
        writer = PYTHON_OF_PROTOCOL.get(protocol, "a later version")
        raise ModelError(
            f"{path} was pickled by Python {writer} or newer (pickle protocol {protocol}), and "
            f"this is Python {PYTHON}, which reads protocols up to {pickle.HIGHEST_PROTOCOL}. "
            f"{REMEDY}"
        )
    if release(version) > release(sklearn.__version__):
        raise ModelError(
            f"{path} was pickled by scikit-learn {version}, and this is scikit-learn "
            f"{sklearn.__version__}. {REMEDY}"
        )
    try:
        return joblib.load(path)
    # Unpickling runs code of the classes that the file names: any error is possible.
    except Exception as problem:
        raise ModelError(
            f"{path} cannot be loaded: {type(problem).__name__}: {problem}. It was pickled by "
            f"scikit-learn {version or '(unknown version)'}, and this is scikit-learn "
            f"{sklearn.__version__} on Python {PYTHON}. {REMEDY}"
        ) from problem


def read_versions(path):
    """Return the file's pickle protocol and its version of scikit-learn; 0 and "" if unknown."""
    with open(path, "rb") as file:
        start = file.read(6)
        file.seek(0)
        for magic, decompress in _COMPRESSIONS:
            if start.startswith(magic):
                try:
                    return _scan(decompress(file.read()))
                except (OSError, EOFError, zlib.error, lzma.LZMAError):
                    return 0, ""
        if not start:
            return 0, ""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _scan(content)


def _scan(content):
    protocol = content[1] if content[:1] == pickle.PROTO else 0
    match = _SKLEARN_VERSION.search(content)
    return protocol, match.group(1).decode() if match else ""


def release(version):
    """Return the major and minor number of a version."""
    return tuple(int(number) for number in re.findall("[0-9]+", version)[:2])
