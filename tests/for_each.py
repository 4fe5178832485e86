"""Tests of hundreds of small cases: pytest takes longer to run an item than most of these cases take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., None])


def for_each(name: str, values: Iterable[Any], ids: Callable[[Any], object] = repr) -> Callable[[Test], Test]:
    """Give a parameter of a test each of these values, in one item of pytest. A failure names the value.

    The values share the fixtures of the test.
    """
    kept = list(values)
    assert kept

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)

        @wraps(test)
        def run_each(**fixtures: Any) -> None:
            for value in kept:
                try:
                    test(**fixtures, **{name: value})
                except BaseException as failure:
                    failure.add_note(f"{name} is {ids(value)}")
                    raise

        others = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        setattr(run_each, "__signature__", signature.replace(parameters=others))  # noqa: B010
        return run_each

    return decorate
