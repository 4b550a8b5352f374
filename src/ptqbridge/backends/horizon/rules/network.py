"""Rules for the model, its shapes and the element types of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, EXACT, QUANT, RULES, carry
from ptqbridge.rulebook import Outcome, implied, refused
from ptqbridge.spec import IOFormat, Shape, ShapeRange


@RULES.rule("onnx")
def onnx(path: str, context: Context) -> Outcome:
    """The YAML names the model; the flag ``--model`` exists only for fast-perf and the checker."""
    if context.fast_perf:
        return carry(EXACT, yaml={"model_parameters.onnx_model": path}, becomes=f"--fast-perf --model {path}")
    return carry(EXACT, yaml={"model_parameters.onnx_model": path})


RULES.always("uff", outcome=refused("the BPU tools read ONNX and Caffe, not UFF"))


@RULES.rule("model")
def caffe_weights(path: str, context: Context) -> Outcome:
    """Caffe is read by both tools."""
    return carry(EXACT, yaml={"model_parameters.caffe_model": path})


@RULES.rule("deploy")
def caffe_description(path: str, context: Context) -> Outcome:
    """The description that belongs to the Caffe weights."""
    return carry(EXACT, yaml={"model_parameters.prototxt": path})


@RULES.rule("output")
def outputs(names: tuple[str, ...], context: Context) -> Outcome:
    """trtexec marks tensors, the tool cuts behind nodes."""
    why = "the tool names nodes and cuts the graph behind them; in Caffe a layer and its top mostly share a name"
    return carry(APPROXIMATE, why, yaml={"model_parameters.output_nodes": names})


RULES.always("uffInput", "uffNHWC", outcome=refused("the BPU tools read ONNX and Caffe, not UFF"))


@RULES.rule("minShapes", "optShapes", "maxShapes")
def shapes(asked: Mapping[str, Shape], context: Context) -> Outcome:
    """A BPU model has one shape: a range of shapes cannot be kept."""
    ranges = {
        name: context.request.build.shapes.get(name, ShapeRange(dims, dims, dims)) for name, dims in asked.items()
    }
    for name, shape in ranges.items():
        problem = _misfit(name, shape.opt, context)
        if problem:
            return refused(problem)
        if not shape.is_fixed:
            return refused(
                f"a BPU model runs one shape and {name!r} has a range ({shape.text()}): give the same shape as min, "
                "opt and max, and build once per shape"
            )
    return fixed(ranges)


def _misfit(name: str, dims: Shape, context: Context) -> str:
    """Why these dims cannot be those of the model's input; "" when they can, or when the model was not found."""
    if context.network is None:
        return ""
    spec = next((spec for spec in context.network.inputs if spec.name == name), None)
    if spec is None:
        return f"the model has no input {name!r}; it has {', '.join(spec.name for spec in context.network.inputs)}"
    same = len(dims) == len(spec.shape)
    if same and all(isinstance(own, str) or own == dim for own, dim in zip(spec.shape, dims, strict=True)):
        return ""
    return f"the model's input is {spec.text()}, which cannot become {'x'.join(map(str, dims))}"


def fixed(ranges: Mapping[str, ShapeRange]) -> Outcome:
    """One shape per input, written in the order of the inputs."""
    texts = {name: "x".join(map(str, shape.opt)) for name, shape in ranges.items()}
    return carry(EXACT, becomes=f"input_parameters.input_shape: {';'.join(texts.values())}", shapes=texts)


@RULES.rule("minShapesCalib", "optShapesCalib", "maxShapesCalib")
def calibration_shapes(asked: Mapping[str, Shape], context: Context) -> Outcome:
    """Calibration runs in the one shape that is built."""
    for name, dims in asked.items():
        built = context.request.build.shapes.get(name, ShapeRange(dims, dims, dims))
        if built.opt != dims:
            return refused(f"calibration runs in the shape that is built, and for {name!r} that is {built.text()}")
    return implied("calibration runs in the shape that is built")


_NO_WORD = "a BPU model's input is fp32 (quantized inside) or int8; {} does not exist there"


@RULES.rule("inputIOFormats")
def input_formats(formats: tuple[IOFormat, ...], context: Context) -> Outcome:
    """fp32 stays a float input (``featuremap``); int8 takes the Quantize node away."""
    runtime: list[str] = []
    for entry in formats:
        if entry.dtype not in ("fp32", "int8"):
            return refused(_NO_WORD.format(entry.dtype))
        layout = next((word for word in entry.layouts if word in ("chw", "hwc")), None)
        if layout is None:
            return refused(f"the BPU tools have no vectorised memory layouts such as {'+'.join(entry.layouts)}")
        if layout == "hwc" and context.march.journey6 and context.layout != "nhwc":
            return refused("on Journey 6 a float input keeps the model's own layout, and this model is not NHWC")
        runtime.append({"chw": "NCHW", "hwc": "NHWC"}[layout])
    yaml: dict[str, object] = {"input_parameters.input_type_rt": ";".join("featuremap" for _ in formats)}
    if not context.march.journey6:
        yaml["input_parameters.input_layout_rt"] = ";".join(runtime)
    if any(entry.dtype == "int8" for entry in formats):
        why = "the caller quantizes with the input's scale: a Quantize node at the rim goes, an inner one stays"
        return carry(APPROXIMATE, why, yaml=yaml | {"model_parameters.remove_node_type": ("Quantize",)})
    return carry(EXACT, yaml=yaml)


@RULES.rule("outputIOFormats")
def output_formats(formats: tuple[IOFormat, ...], context: Context) -> Outcome:
    """fp32 is what comes out anyway; integers come out when the Dequantize nodes are taken away."""
    words = {entry.dtype for entry in formats}
    for entry in formats:
        if entry.dtype not in ("fp32", "int8", "int32"):
            return refused(f"a BPU model's output is fp32, int8 or int32; {entry.dtype} does not exist there")
        if "chw" not in entry.layouts:
            return refused("an output keeps the layout of the ONNX model; another one cannot be asked for")
    if words == {"fp32"}:
        return implied("outputs are dequantized to fp32 in the model's own layout")
    if len(words) > 1:
        return refused("the output type is one setting for all outputs, and different ones were asked")
    bare: dict[str, object] = {"model_parameters.remove_node_type": ("Dequantize",)}
    if words == {"int32"}:
        why = "only a convolution at the very end has 32-bit sums to give; the caller multiplies with their scale"
        return carry(APPROXIMATE, why, yaml=bare)
    why = "a Dequantize node at the very rim is taken away, and the caller multiplies with the output's scale"
    return carry(APPROXIMATE, why, yaml=integer_outputs(context) | bare)


def integer_outputs(context: Context) -> dict[str, object]:
    """The setting that makes the model's outputs 8-bit."""
    if context.march.journey6:
        return {f"{QUANT}.model_config": {"model_output_type": "int8"}}
    return {"calibration_parameters.optimization": ("set_model_output_int8",)}
