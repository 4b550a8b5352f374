"""Rules for arithmetic: which precisions, per-layer requests, sparsity, ranges of an earlier calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, EXACT, IMPLIED, QUANT, RULES, carry
from ptqbridge.rulebook import Outcome, Verdict, ignored, implied, refused

NODE_INFO = "model_parameters.node_info"
NODE_CONFIG = f"{QUANT}.node_config"
MODEL_CONFIG = f"{QUANT}.model_config"


@RULES.rule("sparsity")
def sparsity(word: str, context: Context) -> Outcome:
    """There is no switch; only ``force`` would change the weights."""
    if word == "force":
        return refused("the BPU tools cannot prune weights for sparse kernels: prune the model before exporting it")
    return ignored("the BPU tools have no switch for sparse kernels")


RULES.always("noTF32", outcome=implied("a BPU has no TF32"))


@RULES.rule("fp16")
def fp16(given: bool, context: Context) -> Outcome:
    """Journey 6 has float16 for many operators; Journey 5 has none."""
    march = context.march
    if not march.journey6:
        wider = "--layerPrecisions=NODE:int16 widens single layers, " if "int16" in march.types else ""
        return refused(f"{march.label} has integers only: {wider}--layerDeviceTypes=NODE:CPU keeps them in fp32")
    if context.request.gave("int8", "best"):
        why = "int8 is the faster of the two: float16 is used only where --layerPrecisions asks for it"
        return carry(APPROXIMATE, why, becomes="int8")
    why = "a request that the tool may not follow: some operators stay int8"
    return carry(APPROXIMATE, why, yaml={MODEL_CONFIG: {"all_node_type": "float16"}})


@RULES.rule("int8")
def int8(given: bool, context: Context) -> Outcome:
    """What a BPU does anyway; useful accuracy takes samples."""
    why = "a BPU computes in int8"
    if context.builds and not context.calibrated and not context.loads:
        why += "; without --calibData its ranges are made up, so the artifact is for timing only"
    if context.march.journey6 and not context.fast_perf:
        return carry(IMPLIED, why, yaml={MODEL_CONFIG: {"all_node_type": "int8"}})
    return implied(why)


for _name, _word in (("fp8", "8-bit floating point"), ("bf16", "bfloat16"), ("int4", "4-bit weights")):
    RULES.always(_name, outcome=refused(f"the BPU has no {_word}; int8 is its fastest type"))


@RULES.rule("best")
def best(given: bool, context: Context) -> Outcome:
    """int8 is the fastest type: fast-perf without samples, a calibrated build with them."""
    if context.calibrated:
        why = "int8 is the fastest type of the BPU; your samples are used, so this is no --fast-perf build"
        return carry(APPROXIMATE, why, becomes="int8 with calibration")
    if context.builds and not context.fast_perf:
        why = "int8 is the fastest type; --fast-perf would drop your other settings, so calibration is skipped instead"
        return carry(APPROXIMATE, why, becomes="int8 without calibration")
    why = "int8 everywhere with made-up ranges and 8-bit inputs and outputs: speed means something, accuracy nothing"
    return carry(APPROXIMATE, why, becomes="--fast-perf")


RULES.always(
    "stronglyTyped",
    outcome=refused("the BPU tools choose the types themselves: a float model always becomes int8; leave it out"),
)


@RULES.rule("directIO")
def direct_io(given: bool, context: Context) -> Outcome:
    """Float inputs and outputs always pass a Quantize or Dequantize node."""
    build = context.request.build
    formats = (*build.input_formats, *build.output_formats)
    if build.input_formats and build.output_formats and all(entry.dtype != "fp32" for entry in formats):
        return implied("the Quantize and Dequantize nodes at the rim are taken away")
    return refused(
        "float inputs and outputs are always converted inside the model: ask for --inputIOFormats=int8:chw and "
        "--outputIOFormats=int8:chw"
    )


@RULES.rule("precisionConstraints")
def constraints(word: str, context: Context) -> Outcome:
    """The tools take each request as a wish and say nothing when they do not follow it."""
    if word == "none":
        return implied("per-layer requests are dropped, as trtexec does")
    if word == "prefer":
        return carry(APPROXIMATE, "the tool takes every request as a wish", becomes="the requests, as they are")
    why = "the tool only knows wishes: what it did is in the node table of its log, and a difference fails the build"
    return carry(APPROXIMATE, why, becomes="the requests, compared with the node table afterwards", obey=True)


@RULES.rule("layerPrecisions")
def layer_precisions(layers: Mapping[str, tuple[str, ...]], context: Context) -> Outcome:
    """int8 and int16 are node settings on both families; float words differ."""
    return _requested(layers, context, _precision6 if context.march.journey6 else _precision5)


@RULES.rule("layerOutputTypes")
def layer_outputs(layers: Mapping[str, tuple[str, ...]], context: Context) -> Outcome:
    """One output type per node."""
    return _requested(layers, context, _output6 if context.march.journey6 else _output5)


@RULES.rule("layerDeviceTypes")
def layer_devices(layers: Mapping[str, str], context: Context) -> Outcome:
    """The BPU stands where trtexec has the DLA; CPU is a word of ours."""
    return _per_node({name: (word,) for name, word in layers.items()}, context, _device)


RULES.always(
    "calib",
    outcome=refused(
        "a TensorRT cache holds ranges, and the BPU tools find ranges from samples themselves: give samples with "
        "--calibData"
    ),
)


@RULES.rule("profile", "calibProfile")
def profile(index: int, context: Context) -> Outcome:
    """A BPU model has one shape, so one profile."""
    if index == 0:
        return implied("a BPU model has one shape, which is the only profile")
    return refused(f"a BPU model has one shape, so there is no profile {index}: build once per shape")


Request = tuple[Verdict, str, dict[str, Any], str]
"""Verdict, YAML path, the node's setting there, and why."""
PerNode = Callable[[str, tuple[str, ...], Context], "Request | str"]
"""What one layer's words become, or why they are refused."""


def _requested(layers: Mapping[str, tuple[str, ...]], context: Context, rule: PerNode) -> Outcome:
    if context.constraints == "none":
        return ignored("per-layer requests count only with --precisionConstraints=prefer or obey, as in trtexec")
    return _per_node(layers, context, rule)


def _per_node(layers: Mapping[str, tuple[str, ...]], context: Context, rule: PerNode) -> Outcome:
    """All layers of one option: the worst verdict counts; patterns become node names where the model was found."""
    yaml: dict[str, dict[str, Any]] = {}
    verdict, reasons = EXACT, []
    nodes, missing = context.network.match(layers) if context.network else ({name: (name,) for name in layers}, ())
    if missing and context.constraints == "obey":
        return refused(f"no node of the model is called {missing[0]!r}, and --precisionConstraints=obey was asked")
    for layer, words in layers.items():
        request = rule(layer, words, context)
        if isinstance(request, str):
            return refused(f"{layer}: {request}")
        grade, path, setting, why = request
        verdict = APPROXIMATE if APPROXIMATE in (grade, verdict) else EXACT
        reasons += [why] if why and why not in reasons else []
        for node in nodes.get(layer, ()):
            merge_into(yaml.setdefault(path, {}), {node: setting})
    if missing:
        reasons.append(f"no node of the model is called {', '.join(map(repr, missing))}, so nothing comes of that")
        verdict = APPROXIMATE
    if not context.network and any("*" in layer for layer in layers):
        reasons.append("* is replaced by the node names it matches when the model is there")
        verdict = APPROXIMATE
    return carry(verdict, "; ".join(reasons), yaml={path: nodes for path, nodes in yaml.items() if nodes})


def merge_into(target: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Merge mappings within mappings."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge_into(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


_TO_CPU = "fp32 means the chip's CPU here, which is much slower"


def _precision5(layer: str, words: tuple[str, ...], context: Context) -> Request | str:
    word = words[0]
    if word in context.march.types:
        return EXACT, NODE_INFO, {"InputType": word}, ""
    if word == "fp32":
        return APPROXIMATE, NODE_INFO, {"ON": "CPU"}, _TO_CPU
    return f"{context.march.label} has {' and '.join(context.march.types)} (and fp32 on its CPU), no {word}"


def _precision6(layer: str, words: tuple[str, ...], context: Context) -> Request | str:
    word = words[0]
    if word in ("int8", "int16", "fp16"):
        return EXACT, NODE_CONFIG, {"qtype": word.replace("fp16", "float16")}, ""
    if word == "fp32":
        return APPROXIMATE, NODE_CONFIG, {"qtype": "float32"}, "float32 nodes may leave the BPU"
    return f"Journey 6 nodes compute in int8, int16, fp16 or fp32, not in {word}"


def _output5(layer: str, words: tuple[str, ...], context: Context) -> Request | str:
    if len(set(words)) > 1:
        return "a node has one output type, and several were asked"
    word = words[0]
    if word in context.march.types:
        return EXACT, NODE_INFO, {"OutputType": word}, ""
    if word == "fp32":
        return "a BPU node's output is an integer: --layerDeviceTypes=NODE:CPU keeps the node in fp32"
    if word == "int32":
        return "32-bit sums leave the BPU only at the end of the model: ask for --outputIOFormats=int32:chw"
    return f"{context.march.label} has no {word} outputs"


def _output6(layer: str, words: tuple[str, ...], context: Context) -> Request | str:
    if len(set(words)) > 1:
        return "a node has one output type, and several were asked"
    word = words[0]
    if word in ("int8", "int16", "fp16", "fp32"):
        why = "a request that the tool may not follow" + (": float32 may leave the BPU" if word == "fp32" else "")
        return APPROXIMATE, NODE_CONFIG, {"OutputType": word.replace("fp", "float")}, why
    if word == "int32":
        return "32-bit sums leave the BPU only at the end of the model: ask for --outputIOFormats=int32:chw"
    return f"Journey 6 has no {word} outputs"


def _device(layer: str, words: tuple[str, ...], context: Context) -> Request | str:
    word = words[0]
    if word == "GPU":
        return "there is no GPU here; the devices are BPU and CPU"
    if word == "CPU":
        return EXACT, NODE_INFO, {"ON": "CPU"}, ""
    why = "the BPU is the accelerator here as the DLA is there" if word == "DLA" else "a request"
    return APPROXIMATE, NODE_INFO, {"ON": "BPU"}, why
