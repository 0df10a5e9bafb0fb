"""Settings of a dashboard: addresses, the configuration file, and their precedence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.dashboard import settings
from fnbuild.dashboard.settings import DashboardOptions, ListenAddress, make_settings
from fnbuild.errors import ConfigError, InputError, UsageError
from tests.dashboard.conftest import Started

SAMPLE = Path(__file__).parents[2] / "dashboard-config/dashboard.yaml"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("127.0.0.1", "127.0.0.1", 8070),
        (":9000", "0.0.0.0", 9000),
        ("[::1]:9000", "::1", 9000),
        ("[::]", "::", 8070),
        ("::1", "::1", 8070),
        ("localhost:0", "localhost", 0),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert settings.parse_address(text, 8070) == ListenAddress(host, port)


@pytest.mark.parametrize("text", ["a:b", "a:-1", "a:65536", "a:٣", "[::1]:x", "12", "12:8070"])
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        settings.parse_address(text, 8070)
    assert text in failure.value.message


def test_only_loopback_is_open_by_default() -> None:
    options = DashboardOptions(listen=["127.0.0.1:1", "[::1]:2", "localhost:3", ":4", "10.0.0.1:5"])
    resolved = make_settings(options, DashboardOptions())
    assert [address.open for address in resolved.listen] == [True, True, True, False, False]
    assert not any(
        address.open for address in make_settings(DashboardOptions(read_token=True), options).listen
    )


def test_an_address_for_cvat_is_added_to_the_default_one() -> None:
    resolved = make_settings(DashboardOptions(open=["172.17.0.1:8070"]), DashboardOptions())
    assert resolved.listen == (
        ListenAddress("127.0.0.1", 8070, open=True),
        ListenAddress("172.17.0.1", 8070, open=True),
    )
    again = make_settings(DashboardOptions(listen=[":8070"], open=[":8070"]), DashboardOptions())
    assert again.listen == (ListenAddress("0.0.0.0", 8070, open=True),)


def test_no_health_address() -> None:
    assert make_settings(DashboardOptions(health="none"), DashboardOptions()).health is None
    assert make_settings(DashboardOptions(health=":1"), DashboardOptions()).health == ListenAddress(
        "0.0.0.0", 1
    )


def test_flags_precede_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("registry: there:5000\nnamespace: lab\nallowedHosts: [lab.example]\n")
    resolved = make_settings(DashboardOptions(registry="here:5000"), settings.read_options(file))
    assert (resolved.registry, resolved.namespace) == ("here:5000", "lab")
    assert resolved.allowed_hosts == {"lab.example"}


def test_the_sample_file_has_the_defaults() -> None:
    assert make_settings(DashboardOptions(), settings.read_options(SAMPLE)) == make_settings(
        DashboardOptions(), DashboardOptions()
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("registri: x\nlibary: y", ["1:1 unknown-key", "2:1 unknown-key"]),
        ("listen: 8070", ["1:9 wrong-type"]),
        ("- a", ["1:1 wrong-type"]),
        ("a: [", ["1:5 syntax"]),
        ("\x00", ["1:1 binary"]),
        ("defaults:\n  spec: []", ["2:9 wrong-type"]),
        ("defaults: {spec: {replicass: 1}}", ["1:19 unknown-key"]),
    ],
)
def test_an_invalid_file(tmp_path: Path, text: str, places: list[str]) -> None:
    """All its errors are reported at once with their places."""
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as failure:
        settings.read_options(file)
    errors = failure.value.report.errors
    assert all(finding.span is not None and finding.span.file == str(file) for finding in errors)
    assert [
        f"{item.span.line}:{item.span.column} {item.rule}" for item in errors if item.span
    ] == places


def test_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    for text in ("", "# nothing yet\n"):
        file.write_text(text)
        assert settings.read_options(file) == DashboardOptions()
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.read_options(tmp_path / "none.yaml")


def test_defaults_are_those_of_the_flags_else_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("defaults: {spec: {eventTimeout: 7s}}\n")
    assert make_settings(DashboardOptions(), settings.read_options(file)).defaults == {
        "spec": {"eventTimeout": "7s"}
    }


def test_a_missing_library(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        make_settings(DashboardOptions(library=str(tmp_path / "none")), DashboardOptions())


def test_variables_of_nuclio_and_of_fnbuild(started: Started) -> None:
    env = {
        "NUCLIO_DASHBOARD_EXTERNAL_IP_ADDRESSES": "10.0.0.1, 10.0.0.2",
        "NUCLIO_DASHBOARD_NAMESPACE": "lab",
        "FNBUILD_DASHBOARD_ALLOWED_HOST": "one.example two.example",
    }
    with started(env=env) as dashboard:
        reply = dashboard.request("GET", "/api/external_ip_addresses").json
        assert reply["externalIPAddresses"]["addresses"] == ["10.0.0.1", "10.0.0.2"]
        assert dashboard.request("GET", "/api/session").json["namespace"] == "lab"
        for host in ("one.example", "two.example"):
            assert dashboard.request("GET", "/live", headers={"Host": host}).status == 200
