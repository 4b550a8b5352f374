"""Where we knowingly differ from trtexec, one row each; docs/differences.md is generated from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """``option`` may be a group of options in words. ``trtexec`` is what 8.6.1 does unless a version is named."""

    row: str
    option: str
    trtexec: str
    here: str
    why: str


PARSING = (
    Difference(
        "number-tail",
        "every number",
        "reads the leading digits and drops the rest: `--duration=10s` is 10, `--iterations=1e3` is 1, "
        "`--device=1,2` is 1, `--percentile=99;95` is 99",
        "an error that shows what is left over",
        "a dropped unit or separator changes the meaning in silence",
    ),
    Difference(
        "nan",
        "every decimal number",
        "takes `nan`",
        "an error",
        "no option can mean it, and comparisons with it pass",
    ),
    Difference(
        "flag-value",
        "every flag",
        "any value means on: `--fp16=0`, `--verbose=false`, `--threads=4` all switch on",
        "an empty value and 1, true, on, yes mean on; anything else is an error",
        "whoever writes `=0` means off, and `--threads=4` means four",
    ),
    Difference(
        "pool-unit",
        "--memPoolSize",
        "8.6 drops the unit (`4G` is 4 MiB); 10.1 reads the last letter (`512MiB` is 512 bytes)",
        "B, K, M, G, also as KiB or MB, are units of two's powers; a bare number is MiB",
        "4 MiB is never what `4G` means",
    ),
    Difference(
        "shape-order",
        "--minShapes, --optShapes, --maxShapes",
        "passes min > opt or opt > max on; the library fails minutes later",
        "an error that shows the three shapes",
        "it cannot be built anywhere",
    ),
    Difference(
        "streams-below-one",
        "--infStreams, --streams",
        "takes 0 or less and crashes with SIGSEGV",
        "an error",
        "there is nothing to run",
    ),
    Difference(
        "nothing-to-measure",
        "--iterations, --duration, --warmUp",
        "all three 0: runs nothing and crashes",
        "an error",
        "there is nothing to report",
    ),
    Difference(
        "separate-value",
        "every option with a value",
        "`--onnx m.onnx` sets an empty path and reports `m.onnx` as unknown",
        "the next word is the value unless it starts with a dash (a number may)",
        "every other tool takes it",
    ),
    Difference(
        "later-option",
        "options that 8.6.1 does not have",
        "each version knows its own options only",
        "options of 8.6.1, 10.x and 11.x are all known; each target says what becomes of them",
        "one command line is used with several versions and chips",
    ),
    Difference(
        "later-types",
        "--layerPrecisions, --layerOutputTypes, --inputIOFormats, --outputIOFormats, --preview, --memPoolSize, "
        "--hardwareCompatibilityLevel",
        "8.6.1 does not know bf16, int64, bool, uint8, int4, hwc16 and words that came later",
        "known, and int16 (a BPU precision) too",
        "the target decides, not the parser",
    ),
    Difference(
        "device-words",
        "--layerDeviceTypes",
        "GPU and DLA only",
        "BPU and CPU too",
        "the words of the Horizon targets",
    ),
    Difference(
        "scalar-shape",
        "every shape option",
        "8.6.1 refuses `a:scalar`; 10.0 means rank 0",
        "rank 0",
        "the later meaning is plain",
    ),
    Difference(
        "our-option",
        "options marked as ours in docs/options.md",
        "unknown",
        "known",
        "what trtexec has no word for",
    ),
    Difference(
        "repeated-order",
        "--plugins and its kin",
        "the order of repeated options is an accident of the C++ library",
        "the order given",
        "load order matters to plugins",
    ),
    Difference(
        "overridden-word",
        "--nvtxMode",
        "never reads a wrong word when --profilingVerbosity stands beside it",
        "an error",
        "every word given is read",
    ),
    Difference(
        "several-errors",
        "unknown options",
        "reports a missing model or a bad value first, unknown options only after a clean parse",
        "an unknown option comes first, with the nearest known one",
        "the typo is the cause of the rest",
    ),
)

BEHAVIOUR = (
    Difference(
        "calib-missing",
        "--calib",
        "a file that does not exist calibrates on random numbers and says nothing",
        "exit status 3 before the build; `explain` says it could not look",
        "the result is a garbage engine that passes",
    ),
    Difference(
        "foreign-cache",
        "--calib",
        "hands any file to the builder; one of another model, or broken, ends the build or is used as far as it goes",
        "exit status 3 before the build; how many of the model's tensors have a scale is said",
        "a layer without a scale is silently slower",
    ),
    Difference(
        "made-up-ranges",
        "--int8, --best without data",
        "invents ranges of 2 and 4 and says nothing",
        "the artifact is stamped `performance only` in plan, result and report; `--strict` refuses it",
        "such numbers are good for timing only",
    ),
    Difference(
        "exit-status",
        "every failure",
        "exit status 1, or a signal",
        "2 options, 3 model or data, 4 toolchain or board not found, 5 toolchain failed, 6 a stated limit was not"
        " met, 130 interrupted",
        "scripts must tell them apart",
    ),
    Difference(
        "usage-on-error",
        "every bad option",
        "prints the whole usage text after the error",
        "one line and a hint",
        "the line that matters scrolls away",
    ),
    Difference(
        "export-errors",
        "--exportTimes, --exportOutput, --exportProfile, --exportLayerInfo",
        "a file that cannot be written is ignored, exit status 0",
        "exit status 3",
        "a CI job must not lose its report",
    ),
    Difference(
        "export-json",
        "--exportOutput, --exportProfile",
        "names are not escaped, nan and inf are written bare",
        "valid JSON: names escaped, nan and inf as null",
        "a quote in a name broke the file",
    ),
    Difference(
        "long-input",
        "--loadInputs",
        "a longer file is taken, its tail ignored",
        "an error that names both lengths",
        "the file is of another shape or type",
    ),
    Difference(
        "input-files",
        "--loadInputs",
        "raw bytes only",
        "also .npy and .npz",
        "raw bytes carry no shape to check",
    ),
    Difference(
        "endless-run",
        "--duration=-1",
        "nothing is ever reported",
        "Ctrl-C ends the run and reports it",
        "that is what it is for",
    ),
    Difference(
        "unsure-percentiles",
        "--percentile",
        "prints p99 of ten queries",
        "the same line, and one line more that says which percentiles rest on too few queries",
        "it is the maximum, not a percentile",
    ),
    Difference(
        "bad-engine",
        "--skipInference",
        "an engine that does not load, built or given with --loadEngine, passes with exit status 0",
        "exit status 3",
        "the file is the product",
    ),
    Difference(
        "error-recorder",
        "target trt, every build",
        "gives builder and runtime an error recorder",
        "errors are taken from the logger, and end in one line",
        "the logger has the same texts in Python",
    ),
    Difference(
        "implicit-batch-query",
        "target trt, every run",
        "asks the engine again and again whether it has an implicit batch",
        "not asked",
        "engines from ONNX never have one",
    ),
    Difference(
        "repeated-flag",
        "--useDLACore with --fp16, --directIO or --precisionConstraints; one --dynamicPlugins library named twice",
        "sets the same builder flag, or loads the same library, twice",
        "once",
        "a flag is on or off, a library loaded or not",
    ),
    Difference(
        "shape-address",
        "an input that holds a shape, when an engine is run",
        "gives the context the address of the values, then that of a buffer on the device",
        "the address of the values, in host memory",
        "TensorRT reads the values of a shape on the host",
    ),
    Difference(
        "qdq-calibrator",
        "--int8 with Q/DQ nodes in the model",
        "installs a calibrator with random data, which TensorRT passes over",
        "none is installed",
        "the Q/DQ nodes hold the ranges",
    ),
    Difference(
        "timing-cache-builder",
        "--timingCacheFile",
        "makes a second builder to merge its cache into the file",
        "the build's own configuration merges it; the file is replaced at once",
        "a reader never sees half a file",
    ),
    Difference(
        "pruned-onnx",
        "--sparsity=force",
        "prunes the weights of parsed layers: Conv, fully connected, and MatMul with a constant right side",
        "prunes the same weights in the ONNX, before it is parsed",
        "the Python API hands every layer out without its weights, and the pruned model can be tried on the CPU",
    ),
    Difference(
        "empty-plugin-path",
        "--plugins, --staticPlugins, --dynamicPlugins, --setPluginsToSerialize",
        "takes an empty path for a library",
        "an empty path names none, and is said",
        "it is an unset variable of a script",
    ),
    Difference(
        "negative-dla",
        "--useDLACore",
        "-1 means none; -2 and below are passed on as the number of a core",
        "every negative number means none",
        "there is no such core",
    ),
    Difference(
        "inspector-runtime",
        "--dumpLayerInfo, --exportLayerInfo",
        "makes a second runtime, which nothing uses, before it asks the inspector",
        "only the inspector is made",
        "it is asked about an engine that is loaded already",
    ),
    Difference(
        "context-order",
        "--infStreams, --streams",
        "makes every context, then tells all of them the shapes, then the addresses",
        "makes each context ready before the next",
        "calls on one context do not touch another",
    ),
    Difference(
        "profile-context",
        "--separateProfileRun",
        "gives the profiler to the contexts of the timed run",
        "makes new contexts for the profiled run",
        "nothing of the timed run is left in them",
    ),
    Difference(
        "untimed-query",
        "target trt, every run",
        "times the first query too, as part of the warm-up; only a CUDA graph has one query before it",
        "every stream answers one query before the clock starts",
        "kernels that are loaded at the first query are no latency; with --warmUp=0 they would be in the figures",
    ),
    Difference(
        "captured-profile",
        "--useCudaGraph with --dumpProfile or --exportProfile",
        "asks for layer times after the capture of the graph too",
        "asks after queries only",
        "nothing ran while it was captured",
    ),
    Difference(
        "timed-loads",
        "--timeDeserialize",
        "loads on a runtime of its own, without --tempdir, --tempfileControls and --useDLACore, and never before",
        "a build checks once that its engine loads; the timed loads use the runtime as it is set up for running",
        "an engine that needs those options loads only with them",
    ),
    Difference(
        "dry-run",
        "--dryRun",
        "11.1: lists the routes of a builder search",
        "writes everything a real run would start from and runs nothing",
        "on every target, not for one search only",
    ),
    Difference(
        "slow-first-load",
        "--timeDeserialize",
        "fails when the first load took more than twice the average",
        "says so as a warning",
        "a cold file cache is no failure",
    ),
    Difference(
        "raw-names",
        "--dumpRawBindingsToFile",
        "tensors whose names become the same file name overwrite each other",
        "the later one gets `_2`, `_3`, ...",
        "no output is lost",
    ),
    Difference(
        "long-sums",
        "the mean of many queries",
        "adds in 32-bit floats: 4 % off after five million queries",
        "the same up to 131071 queries, 64-bit sums from there on",
        "an endless run deserves a true mean",
    ),
    Difference(
        "unknown-layer",
        "--layerPrecisions, --layerOutputTypes, --layerDeviceTypes",
        "a name that matches no layer is dropped in silence",
        "prefer: said; obey: an error; `*` matches any part of a name (TensorRT 8.6: alone only, as in its trtexec)",
        "it is a typo or a fused layer",
    ),
)

DIFFERENCES = (*PARSING, *BEHAVIOUR)
BY_ROW = {difference.row: difference for difference in DIFFERENCES}


def markdown() -> str:
    """The text of docs/differences.md."""
    lines = [
        "# Differences from trtexec",
        "",
        "The meaning of a command line is that of trtexec 8.6.1, except for these rows. `explain --json` lists the",
        "rows that a command line touches under `differences`; an error names its row where trtexec would have gone",
        "on.",
        "",
        "This file is generated: `make docs`.",
    ]
    for title, rows in (("Reading the command line", PARSING), ("Building and running", BEHAVIOUR)):
        lines += ["", f"## {title}", "", "| row | option | trtexec | here | why |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join((row.row, row.option, row.trtexec, row.here, row.why))} |" for row in rows]
    return "\n".join(lines) + "\n"
