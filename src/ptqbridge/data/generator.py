"""Samples from the user's own Python function, named ``FILE.py:FUNCTION`` (``load_data`` when left out).

The function takes no arguments and yields one mapping input name -> array per inference, as Polygraphy's data loader
scripts do (NVIDIA/TensorRT tools/Polygraphy, --data-loader-script). The file is run, so it must be trusted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ptqbridge.data.arrays import Array, check_finite, model_dtype
from ptqbridge.data.reading import Sample
from ptqbridge.data.store import SKIP_HINT, BrokenData, Left
from ptqbridge.errors import InputError, PtqbridgeError
from ptqbridge.spec.tensor import TensorSpec

MOST = 1_000_000
"""Samples after which a function is taken for one that never ends."""


class Generated:
    """What a generator function yields. It is run once here, to count and fingerprint, and once per iteration,
    so it must give the same data each time. Raises InputError naming file, function and item.
    """

    def __init__(self, text: str, inputs: Sequence[TensorSpec]) -> None:
        path, _, name = (text, "", "") if text.endswith(".py") else text.rpartition(":")
        self.path, self._inputs = path, inputs
        self._shown = f"{path}:{name or 'load_data'}"
        self._function = _load(path, name or "load_data")
        digest = hashlib.sha256()
        self.count = 0
        for sample in self._run():
            self.count += 1
            if self.count > MOST:
                raise InputError(f"{self._shown}: yielded more than {MOST} samples; does it ever end?")
            _add(digest, sample)
        if not self.count:
            raise InputError(f"{self._shown}: yielded no samples")
        self.digest = digest.hexdigest()

    def produce(self, chosen: frozenset[int], left: list[Left], skip_broken: int | None) -> Iterator[Sample]:
        """Yield the items numbered in ``chosen``; those with NaN/inf go to ``left``, within the allowance if any."""
        some = False
        digest = hashlib.sha256()
        for index, sample in enumerate(self._run()):
            _add(digest, sample)
            if index not in chosen:
                continue
            try:
                for name, array in sample.arrays.items():
                    check_finite(array, sample.name, name)
            except BrokenData as error:
                left.append(Left.because(sample.name, error))
                if skip_broken is not None and len(left) > skip_broken:
                    error.hint = error.hint or SKIP_HINT
                    raise
                continue
            some = True
            yield sample
        if not some and not (left and skip_broken is None):
            raise InputError(
                f"{self._shown}: " + (f"no sample is left ({left[-1].message})" if left else "yielded none again")
            )
        if digest.hexdigest() != self.digest:
            raise InputError(
                f"{self._shown}: yielded other data than the first time, so the ranges could not be had again",
                hint="seed its random numbers, and let each call begin anew",
            )

    def _run(self) -> Iterator[Sample]:
        index = -1
        try:
            for index, item in enumerate(self._function()):
                yield self._sample(index, item)
        except (PtqbridgeError, GeneratorExit):
            raise
        except Exception as error:
            raise InputError(
                f"{self._shown}: failed after item {index} with {type(error).__name__}: {error}"
            ) from error

    def _sample(self, index: int, item: object) -> Sample:
        name = f"{self._shown}[{index}]"
        wanted = [spec.name for spec in self._inputs]
        if not isinstance(item, Mapping):
            raise InputError(f"{name}: expected a mapping of {', '.join(wanted)}, found {type(item).__name__}")
        if set(item) != set(wanted):
            raise InputError(
                f"{name}: expected inputs {', '.join(wanted)}, found {', '.join(map(str, item)) or 'none'}"
            )
        return Sample(name, {spec.name: _fitted(name, spec, item[spec.name]) for spec in self._inputs})


def _add(digest: hashlib._Hash, sample: Sample) -> None:
    for array in sample.arrays.values():
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())


def _fitted(name: str, spec: TensorSpec, value: object) -> Array:
    array = np.asarray(value)
    dtype = model_dtype(spec)
    fits = array.ndim == len(spec.shape) and all(
        isinstance(want, str) or want == got for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or (array.dtype != dtype and (array.dtype.name, dtype.name) != ("float64", "float32")):
        raise InputError(f"{name}: expected {spec.text()}, found {array.dtype.name}{list(array.shape)}")
    return array.astype(dtype, copy=False)


def _load(path: str, name: str) -> Callable[[], Iterator[Any]]:
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such Python file")
    spec = importlib.util.spec_from_file_location("ptqbridge_user_data", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path}: cannot be loaded, {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{path}: has no function '{name}'")
    return function  # type: ignore[no-any-return]
