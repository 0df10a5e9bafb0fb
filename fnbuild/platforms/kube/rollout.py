"""From the revision that serves to the next one, and back when that fails.

The Deployment is changed first; the Service, where there is one already, and everything else wait
until the new pods are ready, so that a revision that fails has changed nothing but the Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, NotReadyError
from fnbuild.platforms import Manifest, Progress
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import addresses, records
from fnbuild.platforms.kube.applying import apply
from fnbuild.platforms.kube.claims import Claim
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.manifests import manifests
from fnbuild.platforms.kube.planning import Planned
from fnbuild.platforms.kube.reasons import rolled_out
from fnbuild.platforms.kube.rehearsal import Rehearsal, sweep
from fnbuild.platforms.kube.secret_store import SecretStore, has_references
from fnbuild.platforms.kube.surroundings import cron_jobs, identity, policies
from fnbuild.platforms.kube.waiting import Wait, opening

# How long pods that serve take to be the only ones again.
_SETTLING_SECONDS = 10.0
_AT_ONCE = 6


def settle(claim: Claim) -> Made | None:
    """Put on record what runs, if it is not; the revision to go back to, None when there is none.

    A deploy that was killed has left a Deployment that no record knows of: it counts as one that
    served when its pods are ready, as a failure when not.
    """
    active, deployment = records.active(claim.known), claim.known.deployment
    if active is not None and deployment is not None:
        known = claim.made.get(active.number)
        if rolled_out(deployment):
            claim.add(active)
            return active
        if known is None:
            claim.add(active.with_failure(records.INTERRUPTED))
        elif not known.failed:
            return known
    served = (made for made in claim.made.values() if not made.failed)
    return max(served, key=lambda made: made.number, default=None)


def remove(cluster: Cluster, claim: Claim) -> None:
    """Delete everything of a function that is there; its pods end behind this call.

    What only some functions have goes first, the Deployment last: who may not delete one of them
    has lost nothing.
    """
    known, namespace = claim.known, claim.known.key.namespace
    configs = [made.config for made in (*claim.made.values(), known.made) if made is not None]
    if claim.imported:
        configs.append(json.loads(claim.imported))
    sweep(cluster, known.key)
    crons, jobs = cron_jobs(cluster, known.key)
    extras = [(kinds.INGRESS, known.ingress), (kinds.HPA_V1, known.hpa)]
    extras += [(crons, one) for one in jobs]
    extras += [(kinds.of(one), one) for one in policies(cluster, known.key).objects]
    for some in (extras, [(kinds.SERVICE, known.service)], [(kinds.DEPLOYMENT, known.deployment)]):
        there = [(kind, str(one["metadata"]["name"])) for kind, one in some if one is not None]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda one: cluster.delete(one[0], namespace, one[1]), there))
    needed = any(has_references(config, known.key.name) for config in configs)
    SecretStore(cluster, known.key).delete(needed=needed)
    claim.forget = True


@dataclass(slots=True)
class Rollout:
    """One revision about to run. `previous` is the one to go back to."""

    cluster: Cluster
    claim: Claim
    planned: Planned
    previous: Made | None
    progress: Progress
    _applied: bool = False

    def run(self) -> None:
        """Raises `NotReadyError` or what the cluster refuses; the previous revision serves then."""
        if self.planned.plan.refusal is not None:
            raise self.planned.plan.refusal
        made = self.planned.made
        self.progress(f"making revision {made.number}")
        try:
            self._begin()
            Wait(self.cluster, made, self.progress).until_ready()
        except BaseException as error:
            self._failed(error)
            raise
        self.claim.add(made)
        self._finish()

    def _begin(self) -> None:
        for manifest in self.planned.wanted:
            if manifest["kind"] == "Service" and self.claim.known.service is None:
                self._apply([manifest])
        self._rehearse()
        # From here on it may have changed, whatever is heard of it.
        self._applied = True
        apply(self.cluster, self.planned.deployment, force=self.planned.forces)

    def _rehearse(self) -> None:
        """Find out what can be found out while the pods still serve that are to end first."""
        live = self.claim.known.deployment
        if self.planned.way != "gap" or live is None:
            return
        if not (live.get("status") or {}).get("availableReplicas"):
            return
        made = self.planned.made
        try:
            Rehearsal(self.cluster, made, self.planned.deployment, self.progress).run()
        except NotReadyError as error:
            self._record(error)
            if self.previous is not None:
                self._add(error, f"revision {self.previous.number} goes on serving")
            raise

    def _finish(self) -> None:
        """Bring everything else in line with the revision that serves."""
        rest = [
            one for one in self.planned.wanted if one["kind"] != "Deployment" and self._differs(one)
        ]
        try:
            self._apply(rest)
            for one in self.planned.unwanted:
                kind, name = identity(one)
                self.progress(f"removing {kind.lower()} {name}")
                namespace = self.planned.known.key.namespace
                self.cluster.delete(kinds.of(one), namespace, name)
            if self.planned.provisional:
                # Now nobody else decides how many pods there are, and the old pods are gone.
                apply(self.cluster, _deployment(self.planned.wanted), force=True)
        except FnbuildError as error:
            self._add(error, f"revision {self.planned.made.number} serves; deploy again to end it")
            raise

    def _differs(self, manifest: Manifest) -> bool:
        made_already = manifest["kind"] == "Service" and self.claim.known.service is None
        return not made_already and self.planned.changes(manifest)

    def _apply(self, some: Iterable[Manifest]) -> None:
        forces = self.planned.forces
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for one in pool.map(lambda one: self.cluster.apply(one, force=forces), some):
                if one["kind"] == "Service":
                    self.claim.node_port = addresses.node_port(one)

    # Back

    def _failed(self, error: BaseException) -> None:
        """Note why the revision does not serve, and bring back what did."""
        if not self._applied:
            return
        if isinstance(error, ConflictError | NotFoundError) or not self._ours():
            return  # it is somebody else's by now, or nothing was changed
        self._record(error)
        if self.planned.plan.options.get("keep_failed"):
            number = self.planned.made.number
            self._add(error, f"revision {number} stays in the cluster, as `--keep-failed` asks")
            return
        if self.previous is None:
            return
        try:
            self._back_to(self.previous, error)
        except FnbuildError as problem:
            number = self.previous.number
            self._add(error, f"revision {number} could not be brought back: {problem.message}")

    def _ours(self) -> bool:
        """Whether the Deployment is the one that was applied."""
        key = self.planned.known.key
        try:
            live = self.cluster.get(kinds.DEPLOYMENT, key.namespace, key.object)
        except FnbuildError:
            return True  # going back finds out
        current = Made.of_deployment(live) if live is not None else None
        return current is not None and current.number == self.planned.made.number

    def _back_to(self, previous: Made, error: BaseException) -> None:
        self.progress(f"going back to revision {previous.number}")
        deployment = _deployment(manifests(previous, self.planned.around))
        # What somebody else has changed meanwhile must not keep the function down.
        live = apply(self.cluster, deployment, force=True)
        if previous.function.spec.disable:
            return
        if int((live.get("status") or {}).get("availableReplicas") or 0):
            self._add(error, f"revision {previous.number} goes on serving")
            with suppress(FnbuildError):  # the failed pods may take their time
                Wait(self.cluster, previous, _silence).until_ready(seconds=_SETTLING_SECONDS)
        else:
            if isinstance(error, FnbuildError):
                Wait(self.cluster, previous, self.progress).until_ready()
            self._add(error, f"revision {previous.number} starts again")

    def _record(self, error: BaseException) -> None:
        """The first line of a failure is the reason."""
        made = self.planned.made
        message = "the deploy was interrupted"
        if isinstance(error, FnbuildError):
            reason = error.message.removeprefix(opening(made))
            message = "\n".join(part for part in (reason, error.detail) if part)
        self.claim.add(made.with_failure(message))

    def _add(self, error: BaseException, words: str) -> None:
        if isinstance(error, FnbuildError):
            error.hint = f"{words}; {error.hint}" if error.hint else words


def _deployment(some: Iterable[Manifest]) -> Manifest:
    return next(one for one in some if one["kind"] == "Deployment")


def _silence(_: str) -> None:
    """What serves all the time has nothing to say."""
