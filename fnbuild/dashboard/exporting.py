"""Exports through the API: configurations, including the code if it is a single source file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anyio import to_thread

from fnbuild.dashboard import objects
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.listed import Listed
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.deploy import exports
from fnbuild.errors import FnbuildError
from fnbuild.spec.types import Raw

_MOST_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class Exported:
    """The exported functions by name. `missing` has a message for code that is not included."""

    functions: dict[str, Raw]
    missing: Sequence[str] = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """The warning as a header (RFC 9111, 5.5), as Kubernetes warns its clients."""
        if not self.missing:
            return {}
        text = "; ".join(self.missing[:_MOST_WARNINGS]).replace("\\", "").replace('"', "'")
        text = text.encode("ascii", "replace").decode()
        return {"Warning": f'299 fnbuild "{text}"'}


async def export(
    inventory: Inventory, listed: Sequence[Listed], options: ExportOptions
) -> Exported:
    """Export functions with their code, which a thread reads from the platforms."""
    return await to_thread.run_sync(_export, inventory, listed, options)


def _export(inventory: Inventory, listed: Sequence[Listed], options: ExportOptions) -> Exported:
    functions: dict[str, Raw] = {}
    missing: list[str] = []
    for each in listed:
        platform, deployment = inventory.platform(each.platform), each.deployment
        if options.secrets:
            deployment = replace(deployment, function=platform.with_secrets(deployment))
        function = deployment.function
        try:
            code = exports.export_code(platform, deployment)
        except FnbuildError as error:
            missing.append(f"the code of {each.name} is not in the export: {error.message}")
        else:
            function = code.function
            if code.missing:
                missing.append(code.missing)
        whole = replace(each, deployment=replace(each.deployment, function=function))
        functions[each.name] = objects.exported(whole, options)
    return Exported(functions, missing)
