"""Claims for models and their volumes: a path on a node, NFS, or an EBS disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fnbuild.errors import FnbuildError, InputError, PreconditionError
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed

_SHARED_WRITES = "ReadWriteMany"
_LABELS = {"app.kubernetes.io/managed-by": "fnbuild"}
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z"
)
_EBS_DRIVER = "ebs.csi.aws.com"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
# A disk of these provisioners is attached to one node.
_BLOCK_PROVISIONERS = frozenset(
    {
        _EBS_DRIVER, "kubernetes.io/aws-ebs", "pd.csi.storage.gke.io", "kubernetes.io/gce-pd",
        "disk.csi.azure.com", "kubernetes.io/azure-disk", "cinder.csi.openstack.org",
        "kubernetes.io/cinder", "rbd.csi.ceph.com", "rook-ceph.rbd.csi.ceph.com",
        "csi.vsphere.vmware.com", "kubernetes.io/vsphere-volume", "dobs.csi.digitalocean.com",
        "rancher.io/local-path", "csi.hetzner.cloud", "topolvm.io",
    }
)  # fmt: skip
_SHARED_HINT = "use ReadWriteOnce, or a file system such as NFS or EFS"


@dataclass(frozen=True, slots=True)
class HostPathVolume:
    """A folder of a node; with several nodes `node` selects one."""

    path: str
    node: str = ""

    def source(self) -> Raw:
        """Return the fields of the PersistentVolume."""
        spec: Raw = {"hostPath": {"path": self.path, "type": "DirectoryOrCreate"}}
        if self.node:
            expression = {
                "key": "kubernetes.io/hostname",
                "operator": "In",
                "values": [self.node],
            }
            terms = [{"matchExpressions": [expression]}]
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        return spec


@dataclass(frozen=True, slots=True)
class NfsVolume:
    """A folder of an NFS server."""

    server: str
    path: str

    def source(self) -> Raw:
        """Return the fields of the PersistentVolume."""
        return {"nfs": {"server": self.server, "path": self.path}}


@dataclass(frozen=True, slots=True)
class EbsVolume:
    """A disk of AWS's Elastic Block Store, by its CSI driver."""

    disk: str

    def source(self) -> Raw:
        """Return the fields of the PersistentVolume."""
        return {"csi": {"driver": _EBS_DRIVER, "volumeHandle": self.disk, "fsType": "ext4"}}


Backend = HostPathVolume | NfsVolume | EbsVolume


def parse_backend(host_path: str, node: str, nfs: str, ebs: str) -> Backend | None:
    """Return the back end of the options, None without one. Raises `InputError`."""
    if len([option for option in (host_path, nfs, ebs) if option]) > 1:
        raise InputError(
            "a volume has one back end: a host path, NFS or EBS",
            hint="use one of `--host-path`, `--nfs` and `--ebs`",
        )
    if node and not host_path:
        raise InputError(
            f"--node {node}: only a host path is on one node", hint="add `--host-path PATH`"
        )
    if host_path:
        _check_absolute("the host path", host_path)
        if not host_path.strip("/"):
            raise InputError("the host path / is the whole disk of a node", hint="use a folder")
        return HostPathVolume(host_path, node)
    if nfs:
        server, colon, path = nfs.partition(":/")
        if not server or not colon:
            raise InputError(f"{nfs!r} is not a folder of NFS", hint="as in server:/exports/models")
        return NfsVolume(server, f"/{path}")
    if ebs:
        if not re.fullmatch(r"vol-[0-9a-f]+", ebs):
            raise InputError(f"{ebs!r} is not a disk of EBS", hint="as in vol-0123456789abcdef0")
        return EbsVolume(ebs)
    return None


def _check_absolute(name: str, path: str) -> None:
    if not path.startswith("/") or ".." in path.split("/"):
        raise InputError(
            f"{name} {path!r} is not an absolute path", hint="as in /srv/models, without `..`"
        )


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """A claim. `storage_class` is None for the cluster's default, and may be ""."""

    namespace: str
    name: str
    size: str
    access_mode: str = "ReadWriteOnce"
    storage_class: str | None = None
    backend: Backend | None = field(default=None)

    def check(self) -> None:
        """Raise `InputError` for a name, a size or a combination that cannot work."""
        if not _NAME.match(self.name):
            hint = "use lower-case letters, digits, '-' and '.'"
            raise InputError(f"{self.name!r} is not the name of a claim", hint=hint)
        try:
            size = parse_quantity(self.size)
        except ValueError as error:
            raise InputError(f"--size: {error}", hint="as in 10Gi") from None
        if size <= 0:
            raise InputError(f"--size: {self.size} is not above zero", hint="as in 10Gi")
        if isinstance(self.backend, EbsVolume) and self.access_mode == _SHARED_WRITES:
            raise InputError(
                f"{_SHARED_WRITES} is not possible on EBS: it is block storage, and a disk is"
                " attached to one node at a time",
                hint=_SHARED_HINT,
            )

    def manifests(self) -> list[Raw]:
        """Return the claim, and before it the volume for its back end."""
        spec: Raw = {
            "accessModes": [self.access_mode],
            "resources": {"requests": {"storage": self.size}},
        }
        storage_class = self.storage_class
        if self.backend is not None:
            # A claim without a class would get a new volume of the default class.
            storage_class = storage_class or ""
            spec["volumeName"] = self._volume_name
        if storage_class is not None:
            spec["storageClassName"] = storage_class
        metadata = {"name": self.name, "namespace": self.namespace, "labels": dict(_LABELS)}
        claim = kinds.VOLUME_CLAIM.manifest(metadata, spec=spec)
        return [claim] if self.backend is None else [self._volume(storage_class or ""), claim]

    @property
    def _volume_name(self) -> str:
        return f"{self.namespace}-{self.name}"

    def _volume(self, storage_class: str) -> Raw:
        assert self.backend is not None
        claim = {
            "apiVersion": kinds.VOLUME_CLAIM.api_version,
            "kind": kinds.VOLUME_CLAIM.name,
            "namespace": self.namespace,
            "name": self.name,
        }
        spec = {
            "capacity": {"storage": self.size},
            "accessModes": [self.access_mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class,
            "claimRef": claim,
        }
        metadata = {"name": self._volume_name, "labels": dict(_LABELS)}
        return kinds.VOLUME.manifest(metadata, spec=spec | self.backend.source())


def create_volume(cluster: Cluster, request: VolumeRequest) -> list[str]:
    """Create the claim with its volume; return warnings.

    Raises `PreconditionError` for a claim that could never be bound. A volume that was created for
    a claim that fails is removed.
    """
    warnings = _check_class(cluster, request)
    created: list[Raw] = []
    try:
        for manifest in request.manifests():
            kind = kinds.kind_of(manifest)
            namespace, name = request.namespace, manifest["metadata"]["name"]
            is_new = cluster.get(kind, namespace, name) is None
            cluster.apply(manifest)
            if is_new:
                created.append(manifest)
    except FnbuildError:
        for manifest in created:
            name = manifest["metadata"]["name"]
            cluster.delete(kinds.kind_of(manifest), request.namespace, name)
        raise
    return warnings


def _check_class(cluster: Cluster, request: VolumeRequest) -> list[str]:
    if request.backend is not None:
        return []
    classes = if_allowed(lambda: cluster.list(kinds.STORAGE_CLASS, None), None)
    if classes is None:
        return []
    storage_class = request.storage_class
    if storage_class is None:
        storage_class = next(_default_classes(classes), "")
        if not storage_class:
            return ["the cluster has no default storage class: the claim needs a volume"]
    if not storage_class:
        return []
    by_name = {str(item["metadata"]["name"]): item for item in classes}
    if storage_class not in by_name:
        names = ", ".join(sorted(by_name)) or "none"
        raise PreconditionError(
            f"the cluster has no storage class {storage_class!r}", hint=f"it has: {names}"
        )
    provisioner = str(by_name[storage_class].get("provisioner", ""))
    if request.access_mode == _SHARED_WRITES and provisioner in _BLOCK_PROVISIONERS:
        raise InputError(
            f"{_SHARED_WRITES} is not possible with the storage class {storage_class}:"
            f" {provisioner} provides block storage, which is attached to one node at a time",
            hint=_SHARED_HINT,
        )
    return []


def _default_classes(classes: Iterable[Raw]) -> Iterator[str]:
    return (
        str(item["metadata"]["name"])
        for item in classes
        if (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    )
