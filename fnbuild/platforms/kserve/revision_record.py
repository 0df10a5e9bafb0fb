"""The record of a revision, as JSON in the function's ConfigMap."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild.platforms import Artifact
from fnbuild.platforms.kubeclient.stored_revision import StoredRevision


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord(StoredRevision):
    """A revision of a function.

    `image` is the user's image name, `pinned` an exact reference of the same image or ""; both are
    "" for a model without code. `pod_revision` is the revision that started the pods, or 0 if they
    do not know it: one that leaves the pods running keeps that of the revision before.
    """

    image: str
    pinned: str
    pod_revision: int = 0

    @property
    def image_reference(self) -> str:
        """The image reference of the container."""
        return self.pinned or self.image

    @property
    def is_built(self) -> bool:
        """True if fnbuild built the image, which therefore has a processor."""
        return bool(self.digest)

    @property
    def artifact(self) -> Artifact:
        return Artifact("image", self.image, self.digest, pinned=self.pinned)
