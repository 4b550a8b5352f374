"""The fill-in of shapes, against a plain port of the C++ functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.options.given import Given, GivenOptions
from ptqbridge.options.parse import parse
from ptqbridge.options.shapes import plan_shapes
from ptqbridge.options.table import BY_NAME
from ptqbridge.spec import ShapeRange

Shapes = dict[str, tuple[int, ...]]
SHAPES = st.none() | st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=2).map(tuple))


def cpp_process(given_shapes: dict[str, Shapes | None]) -> dict[str, dict[str, tuple[int, ...]]]:
    """A port of ``processShapes`` (NVIDIA/TensorRT samples/common/sampleOptions.cpp, v8.6.1)."""
    low, tuned, high = (given_shapes[bound] is not None for bound in ("min", "opt", "max"))
    if not (low or tuned or high):
        return {}
    from_min = "min" if low else "opt" if tuned else "max"
    from_opt = "opt" if tuned else "max" if high else "min"
    from_max = "max" if high else "opt" if tuned else "min"
    names = {name for shapes in given_shapes.values() for name in shapes or {}}
    return {
        name: {
            bound: (given_shapes[source] or {}).get(name, ())
            for bound, source in (("min", from_min), ("opt", from_opt), ("max", from_max))
        }
        for name in names
    }


def options_of(**shapes: Shapes | None) -> GivenOptions:
    """Options as ``parse`` would hand them to the checks, so that any order of bounds can be tried."""
    items = (Given(BY_NAME[name], value, "") for name, value in shapes.items() if value is not None)
    return GivenOptions(tuple(items))


@given(SHAPES, SHAPES, SHAPES, SHAPES)
def test_fill_in_is_the_cpp_function(
    low: Shapes | None, tuned: Shapes | None, high: Shapes | None, run: Shapes | None
) -> None:
    plan = plan_shapes(options_of(minShapes=low, optShapes=tuned, maxShapes=high, shapes=run))
    build = cpp_process({"min": low, "opt": tuned, "max": high})
    expected_run = {name: bounds["opt"] for name, bounds in build.items()} | (run or {})
    expected = {name: ShapeRange(dims, dims, dims) for name, dims in expected_run.items()}
    expected |= {name: ShapeRange(**bounds) for name, bounds in build.items()}
    assert plan.build == expected
    assert plan.run == expected_run
    made_up = sum(shapes is None for shapes in (low, tuned, high)) * len(build)
    assert len(plan.warnings) == made_up


def test_calibration_shapes() -> None:
    reuse = plan_shapes(
        parse(["--onnx=m", "--int8", "--calib=c", "--minShapes=a:1", "--optShapes=a:4", "--shapes=b:7"])
    )
    assert reuse.calibration == {"a": ShapeRange((1,), (4,), (4,))}
    assert reuse.build == {**reuse.calibration, "b": ShapeRange((7,), (7,), (7,))}
    for argv in (
        ["--calib=c", "--optShapes=a:4"],
        ["--int8", "--optShapes=a:4"],
        ["--int8", "--calib=c", "--shapes=a:4"],
    ):
        assert plan_shapes(parse(["--onnx=m", *argv])).calibration == {}
    own = plan_shapes(parse(["--onnx=m", "--int8", "--calib=c", "--optShapes=a:4", "--optShapesCalib=a:2"]))
    assert own.calibration == {"a": ShapeRange((2,), (2,), (2,))}


def test_warnings_name_tensor_and_source() -> None:
    plan = plan_shapes(parse(["--onnx=m", "--maxShapes=a:8"]))
    assert plan.warnings == (
        "min shape of 'a' is taken from --maxShapes",
        "opt shape of 'a' is taken from --maxShapes",
    )
