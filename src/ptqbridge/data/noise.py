"""Seeded noise for builds and runs without data: the very values trtexec feeds, the same on every run.

trtexec fills each input from ``std::default_random_engine`` with its default seed (NVIDIA/TensorRT
samples/common/sampleInference.cpp and sampleUtils.h, v8.6.1): float -1..1, int8/int32 -128..127, bool 0 or 1, and
uint8 0..255. With GCC's library that engine is x' = 16807 x mod (2**31 - 1) starting at 1 (ISO C++ minstd_rand0), a
float is (x - 1) / 2**31 stretched to the range, an integer is (x - 1) // (2147483645 // values), and the few x that
would make it uneven are drawn again (libstdc++ bits/random.tcc, bits/uniform_int_dist.h).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ptqbridge.data.arrays import Array, model_dtype
from ptqbridge.data.reading import Sample
from ptqbridge.data.samples import Samples
from ptqbridge.data.store import Left
from ptqbridge.spec.tensor import TensorSpec
from ptqbridge.wording import counted

_MULTIPLIER = 16807
_MODULUS = 2**31 - 1


def seeded_noise(inputs: Sequence[TensorSpec], count: int, seed: int = 0) -> Samples:
    """``count`` samples of noise; symbolic dimensions become 1. Sample 0 of seed 0 holds trtexec's values.

    Raises InputError for an input of a type that has no numbers.
    """
    shapes = {spec.name: tuple(1 if isinstance(dim, str) else dim for dim in spec.shape) for spec in inputs}
    for spec in inputs:
        model_dtype(spec)

    def produce(left: list[Left]) -> Iterator[Sample]:
        for index in range(count):
            arrays = {spec.name: noise(spec, shapes[spec.name], seed=seed, index=index) for spec in inputs}
            yield Sample(f"noise[{index}]", arrays)

    text = f"noise 1 seed {seed} count {count} " + " ".join(f"{s.name} {s.dtype} {shapes[s.name]}" for s in inputs)
    return Samples(
        count,
        produce,
        lambda: hashlib.sha256(text.encode()).hexdigest(),
        notes=(f"no data: {counted(count, 'sample')} of seeded noise",),
    )


def noise(spec: TensorSpec, shape: Sequence[int], *, seed: int = 0, index: int = 0) -> Array:
    """The ``index``-th block of noise for one input of the concrete ``shape``; block 0 of seed 0 is trtexec's."""
    dtype = model_dtype(spec)
    volume = math.prod(shape)
    if dtype.kind == "f":
        draws = _engine(seed, index * volume, volume)
        unit = (draws - np.uint64(1)).astype(np.float32) / np.float32(2**31)
        values = np.minimum(unit, np.nextafter(np.float32(1), np.float32(0))) * np.float32(2) - np.float32(1)
        return np.asarray(values, dtype).reshape(shape)
    low, high = {"b": (0, 1), "u": (0, 255), "i": (-128, 127)}[dtype.kind]
    spacing = (_MODULUS - 2) // (high - low + 1)
    steps = np.empty(0, np.uint64)
    taken = index * volume
    while len(steps) < volume:  # a second round only for the few draws rejected
        fresh = (_engine(seed, taken, volume - len(steps)) - np.uint64(1)) // np.uint64(spacing)
        taken += volume - len(steps)
        steps = np.concatenate([steps, fresh[fresh <= high - low]])
    return np.asarray(steps.astype(np.int64) + low, dtype).reshape(shape)


def _engine(seed: int, skip: int, count: int) -> Array:
    """``count`` successive states after ``skip`` steps of the generator, as uint64; seed 0 starts at state 1."""
    state = (seed % (_MODULUS - 1)) + 1
    powers = np.empty(count, np.uint64)
    if not count:
        return powers
    powers[0] = state * pow(_MULTIPLIER, skip + 1, _MODULUS) % _MODULUS
    done = 1
    while done < count:  # doubling: the next stretch is the known one, jumped ahead
        step = min(done, count - done)
        jump = np.uint64(pow(_MULTIPLIER, done, _MODULUS))
        powers[done : done + step] = powers[:step] * jump % np.uint64(_MODULUS)
        done += step
    return powers
