"""One thread for the libraries, whoever enters and leaves in whichever order."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tomodask.engine.threads import single_threaded


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_overlapping_contexts_leave_what_was_before() -> None:
    with threadpool_limits(2, user_api="blas"):
        first, second = single_threaded(), single_threaded()
        first.__enter__()
        assert blas_threads() == {1}
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}


def test_an_error_ends_it() -> None:
    @single_threaded()
    def fails() -> None:
        assert blas_threads() == {1}
        raise ValueError("on purpose")

    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="on purpose"):
            fails()
        assert blas_threads() == {2}
