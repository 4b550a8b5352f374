"""The request as it is planned: with the recipe that lies beside the data, and without data that nothing reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptqbridge.options.rows_bridge import WITHOUT_SAMPLES
from ptqbridge.plan import Asked, Request
from ptqbridge.spec import Calibration

if TYPE_CHECKING:
    from ptqbridge.data.recipe import Recipe

RECIPE = "recipe.yaml"
_OPTIONS = {
    "mean": "mean", "std": "std", "scale": "scale", "color": "color", "layout": "layout", "resize": "resize",
    "filter": "resizeFilter",
}  # fmt: skip
"""The option that says the same as a part of the recipe."""
_AS_THEY_ARE = ((0.0,), (1.0,), (1.0,))


def settle(request: Request) -> Request:
    """``request`` with the parts of ``recipe.yaml`` in the data folder that no option says, as if they were asked.

    So a recipe beside the data reaches the tool's configuration as the options do. With ``--calibAlgo=load`` or
    ``skip`` there are no samples. Raises InputError and OptionError for a recipe that cannot be used.
    """
    wanted = request.build.calibration
    if wanted.algorithm in WITHOUT_SAMPLES:
        return _with(request, replace(wanted, data=""))
    path = os.path.join(wanted.data, RECIPE)
    if not wanted.data or not os.path.isfile(path):
        return request
    from ptqbridge.data.recipe import Recipe, load_recipe

    asked = Recipe.from_mapping(vars(wanted.preprocess))
    beside = _spoken(load_recipe(path))
    more = {name: value for name, value in beside if not getattr(asked, name)}
    known = tuple(
        Asked(_OPTIONS[name], value, f"--{_OPTIONS[name]}={_text(value)}", path) for name, value in more.items()
    )
    settled = _with(request, replace(wanted, preprocess=replace(wanted.preprocess, **more)))
    return replace(settled, asked=(*request.asked, *known))


def _with(request: Request, calibration: Calibration) -> Request:
    return replace(request, build=replace(request.build, calibration=calibration))


def _spoken(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """What is said; numbers that leave pixels as they are say nothing, as those of the preset ``raw``."""
    plain = (recipe.mean, recipe.std, recipe.scale) == _AS_THEY_ARE
    for name in _OPTIONS:
        value = getattr(recipe, name)
        if value and not (plain and name in ("mean", "std", "scale")):
            yield name, value


def _text(value: Any) -> str:
    return ",".join(f"{number:.9g}" for number in value) if isinstance(value, tuple) else str(value)
