"""The token of a closed function for the requests of fnbuild itself: `invoke` and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnbuild.errors import FnbuildError
from fnbuild.function.access_settings import authentication_mode
from fnbuild.function.types import Function
from fnbuild.runtime.access.credentials import TOKEN_HEADER, VARIABLE, read_values

if TYPE_CHECKING:
    from fnbuild.platforms.base import Deployment
    from fnbuild.platforms.protocol import Platform


def own_credentials(
    platform: Platform, function: Function, deployment: Deployment | None = None
) -> dict[str, str]:
    """Return the credentials in a function's variable, none if it has no readable value.

    With `deployment`, values that its platform keeps elsewhere are read, too.
    """
    if deployment is not None and any(item.name == VARIABLE for item in function.spec.env):
        function = platform.function_with_secrets(deployment)
    return _parse(function)


def _parse(function: Function) -> dict[str, str]:
    for variable in function.spec.env:
        if variable.name == VARIABLE:
            return read_values(variable.value)
    return {}


def token_headers(function: Function) -> dict[str, str]:
    """Return the header with the token in a function's variable; none for an open function."""
    token = _parse(function).get("token")
    return {TOKEN_HEADER: token} if token and authentication_mode(function) != "none" else {}


def access_headers(platform: Platform, deployment: Deployment) -> dict[str, str]:
    """Return the header with the function's token; none for an open function.

    None, too, if this user may not read it: the function then answers that it needs credentials.
    """
    if authentication_mode(deployment.function) == "none":
        return {}
    try:
        return token_headers(platform.function_with_secrets(deployment))
    except FnbuildError:
        return {}
