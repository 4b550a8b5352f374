"""``ptqbridge infer``: the outputs of a .bin for a whole data set, without a board."""

from __future__ import annotations

import json
import os
import time

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import SAMPLES, unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import InputError, OptionError
from ptqbridge.invocation import understand

USED = (frozenset(SAMPLES) - {"onnx", "calibBatch", "target"}) | {"loadEngine", "out", "toolchain"}


def main(argv: list[str]) -> int:
    """Write the outputs of all samples."""
    if "--help" in argv or "-h" in argv or not argv:
        print(command_help("infer", USED), end="")
        return 0
    invocation = understand(argv, command="infer", default_target="bayes")
    assert invocation is not None  # help was handled above
    options = invocation.options
    left = unused(options, USED, "infer")
    artifact, data, out = invocation.run.artifact, invocation.build.calibration.data, options.value("out")
    if not artifact or not data or not out:
        raise OptionError("infer: expected --loadEngine=FILE.bin, --calibData=DATA and --out=FILE.npz")
    if not out.endswith((".npz", ".npy")):
        raise OptionError(f"--out={out}: expected a name that ends in .npz or .npy")
    if not os.path.isfile(artifact):
        raise InputError(f"--loadEngine: {artifact} does not exist")
    speaker = Speaker(quiet=options.value("json"))
    for warning in options.warnings:
        speaker.warn(warning)
    if left:
        speaker.line(f"not used here, from the job file: {', '.join(left)}")

    from ptqbridge.backends.horizon.dataset5 import infer

    start = time.perf_counter()
    toolchain = options.value("toolchain")
    record = infer(artifact, invocation.build.calibration, out, toolchain=toolchain, say=speaker.line)
    if record["performance_only"]:
        speaker.warn(f"performance only: {record['performance_only']}")
    seconds = time.perf_counter() - start
    for name, entry in record["outputs"].items():
        speaker.line(f"{name}: {entry['dtype']}{entry['shape']}")
    speaker.line(f"wrote {out} in {seconds:.1f} s")
    if options.value("json"):
        record = {"ok": True, "command": "infer", "out": out, **record, "seconds": seconds}
        print(json.dumps(record, ensure_ascii=False, indent=1))
    return 0
