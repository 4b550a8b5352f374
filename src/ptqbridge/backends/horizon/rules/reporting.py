"""Rules for reports, devices, plugins and help."""

from __future__ import annotations

from pathlib import PurePath

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules.book import APPROXIMATE, RULES, carry
from ptqbridge.backends.horizon.rules.inference import dequantized
from ptqbridge.rulebook import Outcome, ignored, implied, refused


@RULES.rule("avgRuns")
def average_runs(count: int, context: Context) -> Outcome:
    """The board's tool prints its own progress lines."""
    if context.recent and count > 0:
        why = "frames per statistics line of the board's tool"
        return carry(APPROXIMATE, why, perf={"statistic_cycle": count})
    return ignored("the board's tool prints a line every 200 frames, whatever is asked")


@RULES.rule("percentile")
def percentile(values: tuple[float, ...], context: Context) -> Outcome:
    """perf prints extremes and mean only; infer prints every frame."""
    why = "perf prints minimum, mean and maximum; the percentiles come from the frame times of an extra infer run"
    return carry(APPROXIMATE, why, becomes="infer --frame_count", frame_times=True)


RULES.always("dumpRefit", outcome=refused("a BPU model has no weights that can be replaced"))


@RULES.rule("dumpOutput", "dumpRawBindingsToFile", "exportOutput")
def outputs(value: object, context: Context) -> Outcome:
    """On a board only infer dumps outputs; Journey 5's tool brings a runtime for this machine."""
    why = "outputs come from an extra infer run of one frame, under the tool's own file names"
    if not context.march.journey6 and not context.value("board"):
        why = "without a board they are those of the quantized model, in hb_mapper's own runtime on this machine"
    return carry(APPROXIMATE, why, infer={"enable_dump": True, "dump_format": "bin"} | dequantized(context))


@RULES.rule("dumpProfile", "exportProfile")
def profile(value: object, context: Context) -> Outcome:
    """Per-layer times of TensorRT; segments on Journey 6, nodes on Journey 5."""
    what = "segments of the model" if context.march.journey6 else "the nodes that the runtime schedules"
    return carry(APPROXIMATE, f"times of {what}, not of single layers", perf={"profile_path": "./profile"})


RULES.always(
    "dumpLayerInfo", outcome=implied("the build's log and its record always hold the table of nodes, which run shows")
)


@RULES.rule("exportLayerInfo")
def export_layers(path: str, context: Context) -> Outcome:
    """A product does not tell its layers; the record of its build does."""
    why = "nodes with place and type as the build's log has them, since a product does not tell its layers"
    alone = path if context.request.command == "build" else ""  # else it is written after the run
    return carry(APPROXIMATE, why, becomes=f"the build's table of nodes, written to {path}", layers=alone)


RULES.always("dumpOptimizationProfile", outcome=ignored("a BPU model has one shape, which is in its model_info"))


@RULES.rule("exportTimes")
def export_times(path: str, context: Context) -> Outcome:
    """Frame times exist only in infer's output."""
    why = "frame times come from an extra infer run; there are no times of enqueueing or copying"
    return carry(APPROXIMATE, why, becomes="infer --frame_count", frame_times=True)


@RULES.rule("device")
def device(number: int, context: Context) -> Outcome:
    """Off by one: core_id 0 is any core, 1 the first."""
    other = context.value("useDLACore", -1)
    if other >= 0 and other != number:
        return refused(f"--device={number} and --useDLACore={other} name different BPU cores")
    return _core(number, context)


@RULES.rule("useDLACore")
def dla_core(number: int, context: Context) -> Outcome:
    """The BPU core stands for the DLA core."""
    if number < 0:
        return implied("any free BPU core is used")
    return _core(number, context)


def _core(number: int, context: Context) -> Outcome:
    cores = context.march.cores
    if not 0 <= number < cores:
        known = "only core 0" if cores == 1 else f"cores 0 to {cores - 1}"
        return refused(f"{context.march.label} has {known}, found {number}")
    why = "core_id counts from 1, and 0 would mean any core"
    return carry(APPROXIMATE, why, perf={"core_id": number + 1}, infer={"core_id": number + 1})


@RULES.rule("staticPlugins", "plugins", "dynamicPlugins")
def plugins(path: str, context: Context) -> Outcome:
    """The tools register operators written in Python."""
    if not path.endswith(".py"):
        return refused(f"{path} is a TensorRT plugin; the BPU tools register operators written in Python (.py)")
    parent = str(PurePath(path).parent)
    yaml = {
        "custom_op.custom_op_method": "register",
        "custom_op.op_register_files": (PurePath(path).name,),
        "custom_op.custom_op_dir": parent,
    }
    why = "the operator runs on the chip's CPU, and the board needs its own implementation"
    if context.march.journey6:
        why += "; on Journey 6 the keys exist but are not documented"
    return carry(APPROXIMATE, why, yaml=yaml)


RULES.always(
    "setPluginsToSerialize",
    outcome=refused("a BPU model cannot hold plugins; give the operators with --staticPlugins=FILE.py"),
)
RULES.always("ignoreParsedPluginLibs", outcome=implied("the tools never add plugin libraries by themselves"))
RULES.always("safetyPlugins", outcome=refused("TensorRT's safety plugins do not run on a BPU"))
RULES.always("helpBuildRoute", outcome=ignored("builder choices of this kind are TensorRT's own"))
