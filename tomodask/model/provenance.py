"""What a result says of its origin."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["provenance"]

#: Packages whose versions a result records.
_SOFTWARE = ("tomodask", "numpy", "scipy", "numba", "zarr")


def provenance(step: str, **parameters: Any) -> dict[str, Any]:
    """Return what a result says of its origin: the step, its parameters, the versions.

    It holds nothing of when, where or by whom, so that equal results are equal to the last byte.
    """
    return {
        "step": step,
        **parameters,
        "software": {name: _version(name) for name in _SOFTWARE},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
