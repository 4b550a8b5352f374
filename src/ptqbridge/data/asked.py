"""The calibration samples that a build spec asks for."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbridge.data.recipe import Recipe
from ptqbridge.data.samples import Samples, open_samples
from ptqbridge.spec.build import Calibration
from ptqbridge.spec.tensor import TensorSpec


def asked_samples(wanted: Calibration, inputs: Sequence[TensorSpec], *, keep_going: bool = False) -> Samples:
    """Open ``wanted.data`` for a model with these ``inputs``; ``keep_going`` leaves out whatever is unusable
    and takes samples one by one (lint).

    Raises InputError, OptionError or ToolchainMissing as ``open_samples`` does.
    """
    return open_samples(
        wanted.data,
        inputs,
        recipe=Recipe.from_mapping(vars(wanted.preprocess)),
        samples=wanted.samples,
        seed=wanted.seed,
        skip_broken=None if keep_going else wanted.skip_broken,
        batch=1 if keep_going else wanted.batch,
    )
