"""The project files agree with each other: floors and locks, version, what a built package holds."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import ptqbridge

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCKS = ("lowest.txt", "newest.txt")
PINNED = re.compile(
    r'([a-z0-9]+(?:-[a-z0-9]+)*)==([^\s;]+)( ; python_version [<>]=? "3\.\d+"( and python_version < "3\.\d+")?)?'
)


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(table, dict)
    return table


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, the wheel made from the checkout beside it."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def pins(root: Path, name: str) -> dict[str, set[str]]:
    """Package -> versions pinned in a lock file; every line must be ``name==version`` with at most a Python marker."""
    found: dict[str, set[str]] = {}
    for line in (root / "requirements" / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        match = PINNED.fullmatch(line)
        assert match, f"{name}: '{line}' is not a plain pin"
        found.setdefault(match[1], set()).add(match[2])
    return found


def requirements(project: dict[str, Any], extra: str | None = None) -> dict[str, str]:
    """Package -> lower bound, for the core or an extra."""
    found = {}
    for requirement in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        inner = re.fullmatch(r"ptqbridge\[(\w+)\]", requirement)
        if inner:
            found.update(requirements(project, inner[1]))
        else:
            name, floor = requirement.split(">=")
            found[re.sub(r"[-_.]+", "-", name).lower()] = floor
    return found


def test_lowest_lock_pins_the_floors(root: Path, project: dict[str, Any]) -> None:
    lowest = pins(root, "lowest.txt")
    floors = requirements(project) | requirements(project, "images")
    assert {name: lowest.get(name) for name in floors} == {name: {floor} for name, floor in floors.items()}


@pytest.mark.parametrize(("lock", "extra"), [("lowest.txt", "test"), ("newest.txt", "dev")])
def test_lock_holds_all_that_is_asked_for(root: Path, project: dict[str, Any], lock: str, extra: str) -> None:
    locked = pins(root, lock)
    missing = [name for name in {**requirements(project), **requirements(project, extra)} if name not in locked]
    assert not missing


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address(root: Path, lock: str) -> None:
    text = (root / "requirements" / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|@|--|\.whl|/(home|root|opt|tmp)/", text)


def test_version_stands_in_one_place(root: Path, project: dict[str, Any]) -> None:
    assert project["dynamic"] == ["version"]
    assert "version" not in project
    tree = ast.parse((root / "src/ptqbridge/__init__.py").read_text(encoding="utf-8"))
    assigned = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert ptqbridge.__version__ in assigned
    assert re.fullmatch(r"\d+\.\d+\.\d+([abrc.dev]+\d+)?", ptqbridge.__version__)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {ptqbridge.__version__}" in changelog


def test_readme_is_the_long_description(root: Path, project: dict[str, Any]) -> None:
    """As soon as there is a README, the package shows it."""
    assert project.get("readme") == ("README.md" if (root / "README.md").exists() else None)


def test_wheel_holds_the_package_only(root: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    compiled = "ptqbridge/quantize/_count.so" in names  # where there is a C compiler
    tag = re.escape(sysconfig.get_platform().replace("-", "_").replace(".", "_")) if compiled else "any"
    assert re.fullmatch(rf"ptqbridge-{re.escape(ptqbridge.__version__)}-py3-none-{tag}\.whl", wheel.name)
    info = f"ptqbridge-{ptqbridge.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"ptqbridge", info}
    assert {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt", "ptqbridge/py.typed"} <= names
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]
    sources = {path.relative_to(root / "src").as_posix() for path in (root / "src").rglob("*.py")}
    assert sources <= names


def test_wheel_without_compiler_is_pure(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = {**os.environ, "PTQBRIDGE_PURE": "1"}
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


def test_sdist_holds_no_junk(root: Path, built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
    tops = {name.split("/")[0] for name in names}
    known = {"src", "tests", "configs", "docs", "examples", "benchmarks", "scripts", "requirements", ".ci"}
    files = {"Makefile", "hatch_build.py", "README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}
    assert tops <= known | files | {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {"src/ptqbridge/__init__.py", "LICENSE", "pyproject.toml", "tests/test_packaging.py"} <= set(names)
    assert not [
        name for name in names if re.search(r"__pycache__|\.pyc$|\.(ruff|mypy|pytest)_cache|\.hypothesis", name)
    ]


def test_onnx_runtime_does_not_report_usage() -> None:
    import ptqbridge

    assert ptqbridge.__version__
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
