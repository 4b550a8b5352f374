"""A Journey 5 YAML (hb_mapper) rewritten for Journey 6 (hb_compile): every decision is listed, comments stay.

What changes between the tools: Horizon's OE-Skills 0.2.0 for hb_compile 3.5, hb_mapper 1.24.3's own behaviour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ptqbridge.backends.horizon import schema6
from ptqbridge.backends.horizon.comments import drop
from ptqbridge.backends.horizon.marches import March
from ptqbridge.backends.horizon.schema import entries
from ptqbridge.errors import InputError

_OP_WORD = re.compile(r"set_(\w+?)_(input|output)_(int8|int16)")
_FEEDERS = "what feeds the model must change"


@dataclass(frozen=True)
class Decision:
    """One thing that was changed or must be known. ``human`` marks what nobody can decide for you."""

    key: str
    what: str
    why: str
    human: bool = False

    def text(self) -> str:
        """One line."""
        return f"{'to do: ' if self.human else ''}{self.key}: {self.what} ({self.why})"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return vars(self).copy()


@dataclass
class Migration:
    """A configuration being rewritten in place, section by section."""

    config: Any
    march: March
    decisions: list[Decision] = field(default_factory=list)

    def say(self, key: str, what: str, why: str, *, human: bool = False) -> None:
        """Note a decision."""
        self.decisions.append(Decision(key, what, why, human))

    def section(self, name: str) -> Any:
        """A section, made when it is missing."""
        if self.config.get(name) is None:
            self.config[name] = type(self.config)()
        return self.config[name]

    def remove(self, section: str, key: str, why: str, *, human: bool = False) -> None:
        """Take a key away, if it is there."""
        content = self.config.get(section)
        if content is not None and key in content:
            shown = content[key]
            drop(content, key)
            self.say(f"{section}.{key}", f"{shown!r} dropped", why, human=human)

    def quant(self, *path: str, value: Any) -> None:
        """Set a place in quant_config."""
        place = self.section("calibration_parameters")
        for key in ("quant_config", *path[:-1]):
            place = place.setdefault(key, {})
        place[path[-1]] = value


def migrate(config: Any, march: March) -> list[Decision]:
    """Rewrite a valid hb_mapper configuration (as ``comments.load`` gives it) in place for a Journey 6 march.

    Raises InputError for what has no counterpart (calibration_type load).
    """
    work = Migration(config, march)
    for part in (_model, _inputs, _normalisation, _calibration, _optimization, _compiler, _rest):
        part(work)
    return work.decisions


def _model(work: Migration) -> None:
    model = work.section("model_parameters")
    before = model.get("march")
    model["march"] = work.march.name
    work.say("model_parameters.march", f"{before} -> {work.march.name}", "the chip that was asked for")
    work.remove("model_parameters", "log_level", "hb_compile has no such setting")
    if model.get("set_node_data_type"):
        work.remove("model_parameters", "set_node_data_type", "say it with node_info", human=True)
    removed = entries(model.get("remove_node_type"))
    if "DequantizeFilter" in removed:
        words = dict.fromkeys("Dequantize" if word == "DequantizeFilter" else str(word) for word in removed)
        model["remove_node_type"] = ";".join(words)
        work.say("model_parameters.remove_node_type", "DequantizeFilter -> Dequantize", "its name on Journey 6")
    if model.get("node_info"):
        why = "hb_compile ignores names it does not know without a word; compare with the node table of its log"
        work.say("model_parameters.node_info", "kept", why, human=True)


def _inputs(work: Migration) -> None:
    inputs = work.section("input_parameters")
    kinds, trained = entries(inputs.get("input_type_rt")), entries(inputs.get("input_layout_train"))
    runtime = entries(inputs.get("input_layout_rt"))
    for index, layout in enumerate(runtime):
        kind = kinds[index] if index < len(kinds) else None
        fixed = trained[index] if kind == "featuremap" and index < len(trained) else "NHWC"
        if kind != "nv12" and layout != fixed:
            why = f"{kind} inputs are {fixed} on Journey 6, and were {layout}: {_FEEDERS}"
            work.say("input_parameters.input_layout_rt", f"{layout} cannot be kept", why, human=True)
    work.remove("input_parameters", "input_layout_rt", "the runtime layout follows from the type")
    if "nv12" in kinds:
        row = 64 if work.march.name == "nash-p" else 32
        why = f"NAME_y and NAME_uv instead of one packed input, rows of {row} bytes: {_FEEDERS}"
        work.say("input_parameters.input_type_rt", "nv12 becomes two inputs on the board", why, human=True)
    for kind in kinds:
        if kind in ("rgb", "bgr", "yuv444"):
            why = f"{kind} pixels are signed 8-bit NHWC on Journey 6: {_FEEDERS} where they were not"
            work.say("input_parameters.input_type_rt", f"{kind} kept", why, human=True)
    train = entries(inputs.get("input_type_train"))
    spaces = entries(inputs.get("input_space_and_range"))
    if "bt601_video" in spaces and any(word not in ("rgb", "bgr") for word in train):
        work.remove("input_parameters", "input_space_and_range", "bt601_video is for rgb and bgr models", human=True)


_COUNTS = {
    "mean_value": ("data_mean", "data_mean_and_scale"),
    "scale_value": ("data_scale", "data_mean_and_scale"),
}


def _normalisation(work: Migration) -> None:
    """norm_type decides on Journey 5 which values count; on Journey 6 the values themselves do."""
    inputs = work.section("input_parameters")
    norms = entries(inputs.get("norm_type"))
    for key, words in _COUNTS.items():
        values = entries(inputs.get(key))
        kept = [value if index < len(norms) and norms[index] in words else None for index, value in enumerate(values)]
        if values and not any(kept):
            why = "norm_type did not use it on Journey 5, and Journey 6 would"
            work.remove("input_parameters", key, why)
        elif kept != values:
            inputs[key] = ";".join(value or "None" for value in kept)
            work.say(f"input_parameters.{key}", f"now {inputs[key]}", "norm_type did not use the others")
    if "norm_type" in inputs:
        work.remove("input_parameters", "norm_type", "mean_value and scale_value alone say it on Journey 6")


def _calibration(work: Migration) -> None:
    calibration = work.config.get("calibration_parameters")
    if calibration is None:
        return
    section = "calibration_parameters"
    method = calibration.get("calibration_type")
    if method == "load":
        raise InputError(
            "calibration_parameters.calibration_type: load takes thresholds of a QAT model, which hb_compile cannot",
            hint="calibrate anew: remove the key and name samples in cal_data_dir",
        )
    if method in ("default", "mix"):
        work.remove(section, "calibration_type", "leaving it out searches over the methods on Journey 6")
    share = calibration.get("max_percentile")
    if share is not None and (method != "max" or not float(share)):
        work.remove(section, "max_percentile", "it had no effect on Journey 5")
    elif share is not None and float(share) < 0.995:
        calibration["max_percentile"] = 0.995
        work.say(f"{section}.max_percentile", f"{share} -> 0.995", "Journey 5 worked with 0.995 for all below it")
    work.remove(section, "enable_int16", "it did nothing on Journey 5 either")
    if calibration.get("preprocess_on"):
        why = "hb_compile reads .npy only: prepare the pictures yourself, or use ptqbridge build --calibData"
        work.remove(section, "preprocess_on", why, human=True)
    else:
        work.remove(section, "preprocess_on", "hb_compile has no such setting")
    work.remove(section, "cal_data_type", "samples are .npy files, which know their type")


def samples_to_do(work_config: Any) -> list[Decision]:
    """What remains to be done about samples that were not converted: the most dangerous part of the move."""
    folders = entries((work_config.get("calibration_parameters") or {}).get("cal_data_dir"))
    if not folders:
        return []
    why = (
        "one .npy per sample as the float model wants it, mean and scale already applied; Journey 5's raw pixels are "
        "accepted without a word and ruin the ranges. --calibOut=DIR converts them"
    )
    return [Decision("calibration_parameters.cal_data_dir", "the samples must be converted", why, human=True)]


def _optimization(work: Migration) -> None:
    calibration = work.config.get("calibration_parameters")
    text = str((calibration or {}).get("optimization") or "")
    key = "calibration_parameters.optimization"
    words = [word.strip() for word in re.split(r"[;,]", text) if word.strip()]
    if not words:
        return
    drop(calibration, "optimization")
    for word in words:
        found = _OP_WORD.fullmatch(word)
        if word == "set_all_nodes_int16":
            work.quant("model_config", "all_node_type", value="int16")
        elif word.startswith("set_model_output_"):
            work.quant("model_config", "model_output_type", value=word.rpartition("_")[2])
        elif word == "asymmetric":
            work.quant("model_config", "activation", "asymmetric", value=True)
        elif word == "bias_correction":
            work.quant("model_config", "weight", "bias_correction", value={"num_sample": 1})
        elif found:
            side = "InputType" if found[2] == "input" else "OutputType"
            work.quant("op_config", found[1], side, value=found[3])
        else:
            work.say(key, f"{word} dropped", "Journey 6 has nothing like it", human=True)
            continue
        work.say(key, f"{word} -> quant_config", "that is where Journey 6 says it")


def _compiler(work: Migration) -> None:
    compiler = work.section("compiler_parameters")
    section = "compiler_parameters"
    level = compiler.get("optimize_level")
    if level is None:
        compiler["optimize_level"] = "O2"
        work.say(f"{section}.optimize_level", "O2 written", "absent it means O0 on Journey 5 and O2 on Journey 6")
    elif level == "O3":
        compiler["optimize_level"] = "O2"
        work.say(f"{section}.optimize_level", "O3 -> O2", "hb_compile refuses O3")
    cores = compiler.get("core_num")
    if isinstance(cores, int) and cores > work.march.cores:
        compiler["core_num"] = work.march.cores
        why = f"{work.march.name} has no more"
        work.say(f"{section}.core_num", f"{cores} -> {work.march.cores}", why)
    limit = compiler.get("max_time_per_fc")
    most = schema6.table()[section]["max_time_per_fc"].high or 0
    if isinstance(limit, int) and limit > most:
        compiler["max_time_per_fc"] = int(most)
        work.say(f"{section}.max_time_per_fc", f"{limit} -> {most:.0f}", "hb_compile takes no more")
    if compiler.get("ability_entry"):
        work.say(f"{section}.ability_entry", "kept", "its meaning on Journey 6 is not documented", human=True)


def _rest(work: Migration) -> None:
    if work.config.get("custom_op"):
        why = "hb_compile reads the keys, but no document covers them"
        work.say("custom_op", "kept", why, human=True)
    why = "scripts and board programs that name the .bin, and hrt_model_exec --roi_infer or --hybrid_dequantize_process"
    work.say("product", "a .hbm file instead of a .bin", why, human=True)
