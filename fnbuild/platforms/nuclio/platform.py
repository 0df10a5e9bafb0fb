"""The Nuclio platform: the implementation of the `Platform` protocol through a Nuclio dashboard."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fnbuild.builder.image import registry
from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.datadir import function_lock
from fnbuild.errors import (
    ConfigError,
    ConflictError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    ImageUse,
    LogOptions,
    LogRecord,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Project,
    Reservation,
    Revision,
    imported_code,
)
from fnbuild.platforms.base import FunctionKey, placeholder_function
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.errors import function_exists_error, function_not_found_error
from fnbuild.platforms.nuclio import function_state, planning, rollout
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    decode_deploy_record,
    deploy_config,
    import_config,
    metadata_of,
    project_of,
    validated_key,
)
from fnbuild.platforms.nuclio.rollout import Rollout
from fnbuild.platforms.nuclio.transport import URL_VARIABLE
from fnbuild.platforms.projects import members_to_delete, with_default_project


class NuclioPlatform(Platform):
    """The functions of a Nuclio dashboard.

    Nuclio keeps one configuration of a function, so every function has one revision.
    """

    name = function_state.PLATFORM_NAME
    artifact_kind = "image"
    authentication = "passed-on"
    needs_kubernetes_names = True

    def is_configured(self) -> bool:
        return bool(os.environ.get(URL_VARIABLE))

    @cached_property
    def dashboard(self) -> DashboardClient:
        """The dashboard that the environment names. Raises `UnavailableError` if it names none."""
        return DashboardClient.from_environment()

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        stored = self.dashboard.function(validated_key(function))
        return self._make_plan(stored, function, artifact, options)

    def _make_plan(
        self, stored: Raw | None, function: Function, artifact: Artifact, options: PlanOptions
    ) -> Plan:
        return planning.make_plan(function, artifact, stored, options, self.dashboard)

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        key = validated_key(function)
        with _function_lock(key, "deployed"):
            rollout.check_not_busy(key, self.dashboard.function(key))
            yield Reservation(self._apply)

    def _apply(self, plan: Plan, progress: Progress) -> Deployment:
        """Apply a plan to a function that is reserved."""
        function = plan.function
        key = validated_key(function)
        stored = self.dashboard.function(key)
        # Nuclio has no reservations: a deploy by nuctl may have started in the meantime.
        rollout.check_not_busy(key, stored)
        plan = self._make_plan(stored, function, plan.artifact, plan.options)
        if not plan.effective_changes:
            progress(plan.unchanged_message)
            return self._read_deployment(key, plan.warnings)
        number = decode_deploy_record(stored).number + 1 if stored else 1
        progress(f"deploying revision {number} to {self.dashboard.place}")
        keep_failed = plan.options.keep_failed
        config = deploy_config(function, plan.artifact, number)
        self._rollout(function, progress).deploy(config, stored, keep_failed=keep_failed)
        return self._read_deployment(key, plan.warnings)

    def _rollout(self, function: Function, progress: Progress) -> Rollout:
        return Rollout(
            self.dashboard, validated_key(function), readiness_seconds(function), progress
        )

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,  # noqa: ARG002 - there is only one
        progress: Progress,  # noqa: ARG002
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - the last writer wins in Nuclio
    ) -> Deployment:
        self._read_function(FunctionKey(namespace, name))
        raise PreconditionError(
            f"Nuclio keeps one revision of a function, so {name} cannot be rolled back",
            hint=f"deploy the previous image again: `fnbuild deploy {name} --run-image IMAGE`",
        )

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = FunctionKey(namespace, name)
        self._read_function(key)
        with _function_lock(key, "redeployed"):
            stored = self._read_function(key)
            rollout.check_not_busy(key, stored)
            if not (stored.get("spec") or {}).get("image"):
                raise PreconditionError(
                    f"{name} has no image in Nuclio, so it cannot be started",
                    hint=f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`",
                )
            self._rollout(function_state.configuration_of(stored), progress).redeploy(stored)
            return self._read_deployment(key)

    def store_imported(self, function: Function) -> Deployment:
        key = validated_key(function)
        with _function_lock(key, "imported"):
            if self.dashboard.function(key) is not None:
                raise function_exists_error(key)
            self.dashboard.add_imported(import_config(function))
            self._rollout(function, lambda _: None).wait_until_imported()
            return self._read_deployment(key)

    # Reading

    def require_available(self) -> None:
        self.dashboard.check()

    def examine(
        self,
        namespace: str,  # noqa: ARG002
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - `--platform kube` checks pulls
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return run_checks((Check("nuclio", self._check_dashboard),), areas)

    def _check_dashboard(self) -> Iterator[Finding]:
        self.require_available()
        yield Finding("nuclio", "ok", f"{self.dashboard.place} answers")

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        return [
            self._to_deployment(stored)
            for stored in self.dashboard.functions(namespace)
            if project in (None, project_of(stored))
        ]

    def _to_deployment(self, stored: Raw) -> Deployment:
        """Return the function, in state `error` if its configuration cannot be read."""
        try:
            return function_state.to_deployment(stored, self.dashboard)
        except ConfigError as error:
            metadata = metadata_of(stored)
            key = str(metadata.get("namespace")), str(metadata.get("name"))
            function = placeholder_function(key, project_of(stored))
            return Deployment(function, self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return self._read_deployment(FunctionKey(namespace, name))

    def _read_deployment(self, key: FunctionKey, warnings: tuple[str, ...] = ()) -> Deployment:
        stored = self._read_function(key)
        deployment = function_state.to_deployment(stored, self.dashboard)
        return replace(deployment, warnings=(*warnings, *deployment.warnings))

    def _read_function(self, key: FunctionKey) -> Raw:
        stored = self.dashboard.function(key)
        if stored is None:
            functions = self.dashboard.functions(key.namespace)
            names = [str(metadata_of(function).get("name")) for function in functions]
            raise function_not_found_error(*key, [(key.namespace, name) for name in names])
        return stored

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        return self.dashboard.reachable_url(deployment)

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = FunctionKey(namespace, name)
        self._read_function(key)
        return self.dashboard.logs(key, options)

    def previous_logs(
        self,
        namespace: str,
        name: str,
        options: LogOptions = ALL_RECORDS,  # noqa: ARG002
    ) -> Iterator[LogRecord]:
        raise UsageError(
            "Nuclio does not keep the logs of previous containers",
            hint=f"`kubectl logs -n {namespace} -l nuclio.io/function-name={name} --previous`",
        )

    def replica_names(self, namespace: str, name: str) -> list[str]:
        key = FunctionKey(namespace, name)
        self._read_function(key)
        return self.dashboard.replica_names(key)

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        return function_state.to_revisions(self._read_function(FunctionKey(namespace, name)))

    def code_folder(
        self,
        namespace: str,
        name: str,
        revision: int | None = None,
    ) -> Path | None:
        """Return None for a deployed function: its code is only in the image."""
        key = FunctionKey(namespace, name)
        stored = self.dashboard.function(key) if revision is None else None
        imported = stored is not None and (stored.get("status") or {}).get("state") == "imported"
        return imported_code.find(self.name, key) if imported else None

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002
        """See `Platform.delete`. Images stay in the registry."""
        key = FunctionKey(namespace, name)
        if self.dashboard.function(key) is None:
            return False
        with _function_lock(key, "deleted"):
            self.dashboard.delete(key)
            rollout.wait_until_deleted(self.dashboard, key)
        return True

    def image_use(self, namespace: str) -> ImageUse:
        functions = self.dashboard.functions(namespace)
        images = (str((function.get("spec") or {}).get("image") or "") for function in functions)
        pinned = (decode_deploy_record(function).pinned for function in functions)
        builds = (registry.parse_pushed_build(reference) for reference in pinned)
        repositories = (str(build.repository) for build in builds if build is not None)
        return ImageUse(frozenset(filter(None, images)), frozenset(repositories))

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return with_default_project(namespace, self.dashboard.projects(namespace))

    def _has_project(self, namespace: str, name: str) -> bool:
        return any(project.name == name for project in self.dashboard.projects(namespace))

    def create_project(self, project: Project) -> bool:
        if self._has_project(project.namespace, project.name):
            return False
        try:
            self.dashboard.create_project(project)
        except ConflictError:
            return False  # another client has created it
        return True

    def update_project(self, project: Project) -> bool:
        if not self._has_project(project.namespace, project.name):
            return False
        self.dashboard.update_project(project)
        return True

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        functions = self.dashboard.functions(namespace)
        members = [
            str(metadata_of(function).get("name"))
            for function in functions
            if project_of(function) == name
        ]
        for member in members_to_delete(name, members, cascade=cascade):
            self.delete(namespace, member)
        if not self._has_project(namespace, name):
            return False
        self.dashboard.delete_project(namespace, name)
        return True


def _function_lock(key: FunctionKey, participle: str) -> AbstractContextManager[None]:
    """Hold a lock apart from those of other platforms.

    fnbuild's dashboard on this machine may deploy the function to another platform, and then holds
    the lock of that one.
    """
    return function_lock(f"nuclio@{key.namespace}", key.name, participle)
