"""What a benchmark prints: the machine, tables in Markdown, and its command line."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["load", "machine", "run", "table"]

_PACKAGES = ("numpy", "scipy", "numba", "zarr", "dask", "astra-toolbox", "scikit-image")
Size = TypeVar("Size")


def machine() -> str:
    """Return the processor, the memory and the versions."""
    name, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        fields = {key.strip(): value.strip() for key, _, value in lines}
        name = f"{fields.get('model name', name)} (family {fields.get('cpu family', '?')})"
        flags = fields.get("flags", "")
    vectors = next((unit for unit in ("avx512f", "avx2") if unit in flags.split()), "")
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return (
        f"{name}, {psutil.cpu_count()} cores, {vectors or 'no AVX'}, {memory:.0f} GiB; "
        f"Python {platform.python_version()}, {versions}"
    )


def load() -> str:
    """Return how many processes wanted to run, on average over 1, 5 and 15 minutes."""
    return "load " + ", ".join(f"{value:.1f}" for value in os.getloadavg())


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    body = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return f"\n**{title}**\n\n{body}\n"


def run(
    description: str | None,
    sizes: Mapping[str, Size],
    report: Callable[..., str],
    **options: str,
) -> None:
    """Read the command line of a benchmark, run it and print the machine and the report.

    Parameters
    ----------
    description
        For ``--help``.
    sizes
        By name, the first is the default.
    report
        Called with the size, the folder in which temporary files may be made, and the options.
    **options
        What further options of text mean, by name.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", choices=list(sizes), default=next(iter(sizes)))
    parser.add_argument("--folder", type=Path, help="where temporary files are made")
    for name, meaning in options.items():
        parser.add_argument("--" + name.replace("_", "-"), help=meaning)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in options}
    print(f"{machine()}; {load()}", flush=True)
    print(report(sizes[arguments.size], arguments.folder, **given))
    print(f"\nAfterwards: {load()}")
