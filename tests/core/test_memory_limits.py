"""How many numbers may be held at a time: the usual of a computation, less where a caller says so, one row at least."""

from __future__ import annotations

import pytest

from robusteval.core import memory


def test_rows_are_as_many_as_fit() -> None:
    assert memory.rows(100, 30) == 3
    assert memory.rows(100, 101) == 1, "one row is held whatever it takes"


def test_a_caller_lowers_the_limit_and_never_raises_it() -> None:
    with memory.at_most(60):
        assert memory.allowed(100) == 60
        assert memory.allowed(50) == 50
        assert memory.rows(100, 30) == 2
    assert memory.allowed(100) == 100


def test_limits_nest_and_end_with_an_error_too() -> None:
    def fails() -> None:
        with memory.at_most(60):
            with memory.at_most(20):
                assert memory.allowed(100) == 20
            with memory.at_most(80):
                assert memory.allowed(100) == 60, "an inner limit lifts no outer one"
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert memory.allowed(100) == 100
