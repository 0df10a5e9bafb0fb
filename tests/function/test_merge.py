import pytest

from fnbuild.function.merge import merge_functions
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict


def joined(winner: dict, base: dict) -> dict:
    return to_dict(
        merge_functions(function_from_dict(winner, "flags"), function_from_dict(base, "file"))
    )


def test_the_override_wins_and_the_base_fills_in() -> None:
    result = joined(
        {"metadata": {"name": "a"}, "spec": {"description": "x"}},
        {"metadata": {"name": "b", "namespace": "n"}, "spec": {"handler": "m:h"}},
    )
    assert result["metadata"] == {"name": "a", "namespace": "n"}
    assert result["spec"] == {"description": "x", "handler": "m:h"}


def test_zero_values_do_not_override() -> None:
    result = joined(
        {"spec": {"handler": "", "disable": False, "targetCPU": 0}},
        {"spec": {"handler": "m:h", "disable": True, "targetCPU": 50}},
    )
    assert result["spec"] == {"handler": "m:h", "disable": True, "targetCPU": 50}


def test_zero_replicas_override() -> None:
    result = joined({"spec": {"replicas": 0}}, {"spec": {"replicas": 2, "minReplicas": 1}})
    assert result["spec"] == {"replicas": 0, "minReplicas": 1}


def test_maps_are_joined_by_key_and_triggers_within() -> None:
    result = joined(
        {"metadata": {"labels": {"a": "1"}}, "spec": {"triggers": {"t": {"numWorkers": 4}}}},
        {
            "metadata": {"labels": {"a": "2", "b": "3"}},
            "spec": {
                "triggers": {"t": {"kind": "http", "numWorkers": 1, "attributes": {"port": 1}}}
            },
        },
    )
    assert result["metadata"]["labels"] == {"a": "1", "b": "3"}
    assert result["spec"]["triggers"] == {
        "t": {"kind": "http", "numWorkers": 4, "attributes": {"port": 1}}
    }


@pytest.mark.parametrize(
    ("override", "base"),
    [("maxWorkers", "numWorkers"), ("numWorkers", "maxWorkers"), ("maxWorkers", "maxWorkers")],
)
def test_the_number_of_workers_has_two_names(override: str, base: str) -> None:
    result = joined(
        {"spec": {"triggers": {"t": {override: 1}}}},
        {"spec": {"triggers": {"t": {"kind": "http", base: 2}}}},
    )
    assert result["spec"]["triggers"] == {"t": {"kind": "http", override: 1}}


def test_variables_are_appended_by_name() -> None:
    result = joined(
        {"spec": {"env": [{"name": "A", "value": "1"}]}},
        {"spec": {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}},
    )
    assert result["spec"]["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


def test_platform_attributes_are_joined_deep() -> None:
    policy = {"restartPolicy": {"name": "no"}}
    result = joined(
        {"spec": {"platform": {"attributes": policy}}},
        {
            "spec": {
                "platform": {
                    "attributes": {"restartPolicy": {"maximumRetryCount": 3}, "network": "n"}
                }
            }
        },
    )
    assert result["spec"]["platform"]["attributes"] == {
        "restartPolicy": {"name": "no", "maximumRetryCount": 3},
        "network": "n",
    }


def test_other_lists_are_replaced_as_a_whole() -> None:
    result = joined(
        {"spec": {"build": {"commands": ["a"]}}}, {"spec": {"build": {"commands": ["b", "c"]}}}
    )
    assert result["spec"]["build"]["commands"] == ["a"]


def test_unknown_keys_survive() -> None:
    result = joined({"spec": {"odd": 1}}, {"spec": {"even": 2}, "top": 3})
    assert result == {"spec": {"odd": 1, "even": 2}, "top": 3}


def test_a_default_http_trigger_is_replaced() -> None:
    result = joined(
        {"spec": {"triggers": {"default-http": {"kind": "http"}}}},
        {"spec": {"triggers": {"mine": {"kind": "http"}}}},
    )
    assert list(result["spec"]["triggers"]) == ["mine"]


def test_merging_with_nothing_changes_nothing() -> None:
    function = function_from_dict(
        {"metadata": {"name": "a"}, "spec": {"env": [{"name": "A"}]}}, "x"
    )
    assert merge_functions(function, Function()) == function
    assert merge_functions(Function(), function) == function


def test_attributes_of_the_default_trigger_are_those_of_the_http_trigger() -> None:
    flags = {"kind": "http", "attributes": {"protocols": ["v1"]}}
    file = {"kind": "http", "numWorkers": 2, "attributes": {"port": 1, "protocols": ["v2"]}}
    result = joined(
        {"spec": {"triggers": {"default-http": flags, "web": {"numWorkers": 3}}}},
        {"spec": {"triggers": {"web": file}}},
    )
    assert result["spec"]["triggers"] == {
        "web": {
            "kind": "http",
            "numWorkers": 3,
            "attributes": {"port": 1, "protocols": ["v1"]},
        }
    }
    # This one has its defaults: it is a trigger of its own, which another one replaces.
    stored = {**flags, "numWorkers": 1}
    result = joined(
        {"spec": {"triggers": {"default-http": stored}}}, {"spec": {"triggers": {"web": file}}}
    )
    assert result["spec"]["triggers"] == {"web": file}
