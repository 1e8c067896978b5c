from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

import tomodask

#: Packages that take longer to import than `import tomodask` may, and that it does not need.
SLOW = (
    "dask",
    "distributed",
    "llvmlite",
    "matplotlib",
    "numba",
    "pandas",
    "scipy",
    "xarray",
    "zarr",
)


def test_import_is_light() -> None:
    """A shell that completes, or a worker that starts, does not wait for what it may not use."""
    code = "import sys, tomodask; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "tomodask" in loaded
    assert not set(SLOW) & set(loaded)


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert tomodask.__version__ == project["version"], "install the checkout: pip install -e ."


def test_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="tomodask")
    assert callable(command.load())


def test_types_are_shipped() -> None:
    assert (Path(tomodask.__file__).parent / "py.typed").is_file()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        tomodask.no_such_thing  # noqa: B018


@pytest.mark.parametrize("name", tomodask.__all__)
def test_no_module_has_a_public_name(name: str) -> None:
    """Importing the module would put it in the place of the function of that name."""
    assert find_spec(f"tomodask.{name}") is None


@pytest.mark.parametrize("name", tomodask.__all__)
def test_public_name_is_documented(name: str) -> None:
    """Every public name resolves, is listed, and says what it does and what its parameters mean."""
    value = getattr(tomodask, name)
    assert name in dir(tomodask)
    assert value.__module__.startswith("tomodask.")
    doc = inspect.getdoc(value) or ""
    assert doc.partition("\n")[0].endswith("."), "the docstring begins with a sentence"
    if inspect.isfunction(value):
        assert set(inspect.signature(value).parameters) == documented_parameters(doc)


def documented_parameters(doc: str) -> set[str]:
    """Names in the section Parameters of a numpydoc docstring."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+$|\Z)", doc, re.MULTILINE | re.DOTALL
    )
    if section is None:
        return set()
    heads = re.findall(r"^\**(\w[\w, ]*)(?=$| :)", section[1], re.MULTILINE)
    return {name for head in heads for name in head.split(", ")}
