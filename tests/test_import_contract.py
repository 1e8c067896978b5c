from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]

#: What the lower layers may import of others. The upper ones: what pyproject.toml declares.
THIRD_PARTY = {
    "tomodask.errors": set(),
    "tomodask.geometry": {"numpy", "scipy"},
    "tomodask.kernels": {"llvmlite", "numba", "numpy", "scipy"},
    "tomodask.model": {"numpy", "xarray"},
    "tomodask.simulate": {"mrcfile", "numpy", "scipy", "tifffile"},
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("tomodask", include_external_packages=True, cache_dir=None)


def imported_from_others(graph: grimp.ImportGraph, package: str) -> set[str]:
    """Names of the third-party packages that a package or module imports directly."""
    inside = {package, *graph.find_descendants(package)}
    imported = {
        name for module in inside for name in graph.find_modules_directly_imported_by(module)
    }
    return {
        name
        for name in imported
        if name.partition(".")[0] not in {"tomodask", *sys.stdlib_module_names}
    }


def test_imports_go_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contracts of pyproject.toml hold; where they do not, what was printed says which."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_lower_layers_import_little(graph: grimp.ImportGraph, package: str) -> None:
    assert imported_from_others(graph, package) <= THIRD_PARTY[package]


def test_every_import_is_a_declared_dependency(graph: grimp.ImportGraph) -> None:
    """So nothing that only the tests use, and nothing that only a dependency needs, is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"]
    declared = {canonical(re.match(r"[\w.-]+", line)[0]) for line in requirements}
    providers = packages_distributions()
    undeclared = {
        name
        for name in imported_from_others(graph, "tomodask")
        if not declared & {canonical(provider) for provider in providers.get(name, [name])}
    }
    assert not undeclared
