"""How a change meets the JSON that Logto stores."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connector_mcp.operations.logto.stored_json import emptied, is_vacant, merge, planned

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def leaves(value: Any, path: str) -> dict[str, Any]:
    """Everything that Logto keeps of an object, by dotted path."""
    kept: dict[str, Any] = {}
    for key, member in value.items():
        if isinstance(member, dict):
            kept |= leaves(member, f"{path}.{key}")
        elif not is_vacant(member):
            kept[f"{path}.{key}"] = member
    return kept


def test_false_and_zero_are_values():
    assert not is_vacant(False)
    assert not is_vacant(0)
    assert not is_vacant({"a": ["", 0]})
    assert is_vacant({"a": [None, {"b": ""}], "c": {}})


@settings(max_examples=60, deadline=None)
@given(OBJECTS)
def test_merging_nothing_changes_nothing(stored: dict[str, Any]):
    assert merge(stored, {}) == stored


@settings(max_examples=150, deadline=None)
@given(OBJECTS, OBJECTS)
def test_whatever_a_merge_makes_vanish_is_told_before(stored: dict[str, Any], change: dict[str, Any]):
    told = [path for path, _ in emptied(stored, change, "x")]
    gone = set(leaves(stored, "x")) - set(leaves(merge(stored, change), "x"))
    replaced_by_objects = {
        path for path in gone if any(new.startswith(f"{path}.") for new in dict(planned(change, "x")))
    }
    for path in gone - replaced_by_objects:
        assert any(path == lost or path.startswith(f"{lost}.") for lost in told)


@settings(max_examples=100, deadline=None)
@given(OBJECTS, OBJECTS)
def test_the_plan_is_what_the_merge_stores(stored: dict[str, Any], change: dict[str, Any]):
    after = leaves(merge(stored, change), "x")
    for path, value in planned(change, "x"):
        assert (value is None) == (path not in after)
