"""Every key of hb_compile's YAML (Journey 6), generations 3.0 and 3.5.

Sources: Horizon's OE-Skills 0.2.0 (schema of hb_compile 3.5), published logs and configurations of hb_compile 3.0.
"""

from __future__ import annotations

from ptqbridge.backends.horizon.marches import L2M_TOP, MARCHES
from ptqbridge.backends.horizon.schema import (
    HIDDEN_TYPES,
    LAYOUTS,
    REMOVABLE,
    RUNTIME_TYPES,
    TRAIN_TYPES,
    Key,
    Table,
)

UNDOCUMENTED = ("nash-starry-p",)
"""A march word in the tool's choice list that no document explains."""
OPTIMIZATION = ("set_model_output_int8", "set_model_output_int16", "set_all_nodes_int16", "run_fast")
_MODEL_KEYS = "march working_dir output_model_file_prefix remove_node_type remove_node_name enable_vpu enable_spu"
READ_WITH_BYTECODE = ("compiler_parameters.", *(f"model_parameters.{key}" for key in _MODEL_KEYS.split()))
"""What the tool reads of a YAML beside a .bc (``-c YAML -m FILE.bc``)."""
_DEAD = "it has no effect any more"


def table(generation: str = "3.5") -> Table:
    """The keys by section; a key that came later than ``generation`` is in it, marked by its ``since``."""
    recent = generation != "3.0"
    marches = tuple(name for name, march in MARCHES.items() if generation in march.generations)
    return {
        "model_parameters": {
            "onnx_model": Key("text"),
            "caffe_model": Key("text"),
            "prototxt": Key("text"),
            "march": Key("text", (*marches, *(UNDOCUMENTED if recent else ())), required=True),
            "working_dir": Key("text", default="./model_output"),
            "output_model_file_prefix": Key("text", default="model"),
            "layer_out_dump": Key("bool", default=False),
            "output_nodes": Key("list"),
            "remove_node_type": Key("list", REMOVABLE),
            "remove_node_name": Key("list"),
            "node_info": Key("any"),
            "debug_mode": Key("list", ("dump_calibration_data",)),
            "enable_vpu": Key("bool", default=recent),
            "enable_spu": Key("bool", default=True, since="3.5"),
            "log_level": Key("any", deprecated="the console shows INFO and the file DEBUG"),
            "set_node_data_type": Key("any", deprecated="node_info or quant_config says the same"),
        },
        "input_parameters": {
            "input_name": Key("list"),
            "input_type_rt": Key("list", RUNTIME_TYPES + HIDDEN_TYPES, required=True),
            "input_type_train": Key("list", TRAIN_TYPES, required=True),
            "input_layout_train": Key("list", LAYOUTS),
            "input_shape": Key("list"),
            "input_space_and_range": Key("list", ("regular", "bt601_video"), default="regular"),
            "input_batch": Key("list"),
            "separate_batch": Key("bool", default=False),
            "separate_name": Key("list"),
            "mean_value": Key("numbers"),
            "scale_value": Key("numbers"),
            "std_value": Key("numbers"),
            "norm_type": Key(
                "list",
                (
                    "no_preprocess",
                    "data_mean",
                    "data_scale",
                    "data_std",
                    "data_mean_and_scale",
                    "data_mean_and_std",
                ),
                deprecated="mean_value, scale_value and std_value alone count",
            ),
            "input_layout_rt": Key("list", LAYOUTS, deprecated="the runtime layout follows from the type"),
        },
        "calibration_parameters": {
            "cal_data_dir": Key("list"),
            "calibration_type": Key("text", ("", "kl", "max", "skip", "default", "mix"), default=""),
            "quant_config": Key("any"),
            "per_channel": Key("bool", default=False),
            "max_percentile": Key("number", low=0, high=1),
            "run_on_cpu": Key("list"),
            "run_on_bpu": Key("list"),
            "optimization": Key("list"),
            "cal_data_type": Key("list", deprecated="calibration data are .npy files, which know their type"),
            "preprocess_on": Key("bool", deprecated=_DEAD),
        },
        "compiler_parameters": {
            "compile_mode": Key("text", ("latency", "bandwidth", "balance"), default="latency"),
            "balance_factor": Key("int", low=0, high=100),
            "optimize_level": Key("text", ("O0", "O1", "O2"), default="O2"),
            "core_num": Key("int", low=1, high=4, default=1),
            "max_time_per_fc": Key("int", low=1000, high=10_000_000 if recent else 2**32 - 1, zero=True, default=0),
            "jobs": Key("int", low=0, default=16),
            "advice": Key("number" if recent else "int", low=0, default=0),
            "debug": Key("bool", default=True),
            "input_source": Key("map", default={}),
            "cache_mode": Key("text", ("disable", "enable", "force_overwrite"), default="disable", since="3.5"),
            "cache_path": Key("text", default="", since="3.5"),
            "max_l2m_size": Key("int", low=0, high=L2M_TOP, default=0, since="3.5"),
            "ability_entry": Key("text"),
            "extra_params": Key("map", default={}),
            "hbdk3_compatible_mode": Key("bool", deprecated=_DEAD),
        },
        "custom_op": {
            "custom_op_method": Key("text", ("register", "")),
            "op_register_files": Key("list"),
            "custom_op_dir": Key("text"),
        },
    }


def is_read(path: str) -> bool:
    """Whether a ``section.key`` counts beside a .bc."""
    return path.startswith(READ_WITH_BYTECODE)
