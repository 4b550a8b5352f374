"""The three ways to the GPU with the real pycuda and cuda-python, on a compiled stand-in for the driver library.

A package that is not installed skips its test. What only a driver can tell (times, real copies) stays for tests/gpu.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt.cuda import ATTRIBUTES

pytestmark = pytest.mark.real
PACKAGES = {"pycuda": "pycuda", "cuda-python": "cuda.bindings", "driver": "ctypes"}


def there(name: str) -> Path | None:
    """The folder of an installed package; nothing is imported but its parent."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return None if spec is None else Path(next(iter(spec.submodule_search_locations or ["."])))


@pytest.mark.parametrize("way", PACKAGES)
def test_the_real_package(way: str, tmp_path: Path, root: Path) -> None:
    place = there(PACKAGES[way])
    if place is None:
        pytest.skip(f"the Python package {PACKAGES[way]} is not installed")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc), which makes the stand-in driver")
    doubles = root / "tests" / "doubles"
    make = f"import sys; sys.path.insert(0, {str(doubles)!r}); import cuda_stub; from pathlib import Path; "
    linked = f"Path({str(place)!r}).glob('_driver*.so')" if way == "pycuda" else "()"
    make += f"cuda_stub.compile_stub(Path({str(tmp_path)!r}), {linked})"
    subprocess.run([sys.executable, "-c", make], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root / "src"), os.environ.get("PYTHONPATH", ""))))
    probe = Path(__file__).with_name("cuda_probe.py")
    done = subprocess.run([sys.executable, str(probe), way], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "pycuda" not in done.stderr.lower()  # it warns of contexts that are left or dead
    check(way, json.loads(done.stdout.splitlines()[-1]))


def check(way: str, found: dict[str, Any]) -> None:
    assert found["layer"].startswith("the driver itself" if way == "driver" else way)
    info = found["info"]
    assert (info["name"], info["pci"], info["driver_cuda"]) == ("Stand-in GPU", "0000:17:00.0", "13.0")
    assert {word: info[word] for word in ATTRIBUTES} == {word: 1000 + number for word, number in ATTRIBUTES.items()}
    assert found["handle"] and found["since"] and found["uncopied"]
    assert found["fetched"] == found["back"] == [7] * 16 and found["shared"] == [3] * 8
    assert found["thread"] == ["yes"] and found["memory"] == [True, 100]
    for key in ("no_memory", "no_pinned_memory"):
        assert found[key][0] == 2 and "cuMemAlloc" in found[key][1]
    assert "not launched" in found["not_launched"][1]
    assert found["no_device"] == [101, "--device=3: there is 1, counted from 0 (101)"]
