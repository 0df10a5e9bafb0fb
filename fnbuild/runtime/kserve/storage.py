"""The class `Storage` of KServe and KFServing for models that are on this machine already."""

import os
from typing import Optional


class Storage:
    """The folders of models."""

    @staticmethod
    def download(uri: str, out_dir: Optional[str] = None) -> str:
        """Return the folder of a model that is there: a path or a `file://` URI.

        A model elsewhere is fetched before its function starts, to the folder `/mnt/models`.
        """
        path = uri[len("file://") :] if uri.startswith("file://") else uri
        if "://" in path:
            raise RuntimeError(
                "%s: Storage.download takes a path here; the storageUri of the function is"
                " fetched to /mnt/models before the start" % uri
            )
        if not os.path.exists(path):
            raise RuntimeError("the model folder %s does not exist" % path)
        if out_dir is None or os.path.realpath(out_dir) == os.path.realpath(path):
            return path
        os.makedirs(out_dir, exist_ok=True)
        for name in [""] if os.path.isfile(path) else os.listdir(path):
            target = os.path.join(out_dir, name or os.path.basename(path))
            if not os.path.lexists(target):
                os.symlink(os.path.abspath(os.path.join(path, name).rstrip("/")), target)
        return out_dir
