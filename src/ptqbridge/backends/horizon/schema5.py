"""Every key of hb_mapper makertbin's YAML (Journey 5, RDK X5 and X3).

Source: the option tables of hb_mapper 1.24.3 and what it does with each key when run.
"""

from __future__ import annotations

from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.schema import (
    HIDDEN_TYPES,
    LAYOUTS,
    REMOVABLE,
    RUNTIME_TYPES,
    TRAIN_TYPES,
    Key,
    Table,
)

OPTIMIZATION = (
    "set_model_output_int8",
    "set_model_output_int16",
    "set_all_nodes_int16",
    "asymmetric",
    "bias_correction",
    "lstm_batch_last",
    "run_fast",
)
"""Words of ``optimization``, besides ``set_<OpType>_{input,output}_{int8,int16}``."""
OPTIMIZATION_PATTERN = r"set_\{?\w+\}?_(input|output)_(int8|int16)"
DATA_TYPES = ("uint8", "float32", "int32", "int16", "int8")


def table() -> Table:
    """The keys by section."""
    return {
        "model_parameters": {
            "onnx_model": Key("text"),
            "caffe_model": Key("text"),
            "prototxt": Key("text"),
            "march": Key("text", tuple(name for name, m in MARCHES.items() if not m.journey6), required=True),
            "working_dir": Key("text", default="./model_output", quoted=True),
            "output_model_file_prefix": Key("text", default="model", quoted=True),
            "layer_out_dump": Key("bool", default=False),
            "output_nodes": Key("list"),
            "remove_node_type": Key("list", (*REMOVABLE, "DequantizeFilter")),
            "remove_node_name": Key("list"),
            "node_info": Key("any"),
            "set_node_data_type": Key("any"),
            "debug_mode": Key("list", ("dump_calibration_data",)),
            "log_level": Key("text", deprecated="it is ignored"),
        },
        "input_parameters": {
            "input_name": Key("list"),
            "input_type_rt": Key("list", RUNTIME_TYPES + HIDDEN_TYPES, required=True),
            "input_type_train": Key("list", TRAIN_TYPES + HIDDEN_TYPES, required=True),
            "input_layout_rt": Key("list", LAYOUTS),
            "input_layout_train": Key("list", LAYOUTS, required=True),
            "input_shape": Key("list"),
            "input_batch": Key("list"),
            "norm_type": Key(
                "list",
                ("no_preprocess", "data_mean", "data_scale", "data_mean_and_scale"),
                default="no_preprocess",
            ),
            "mean_value": Key("numbers"),
            "scale_value": Key("numbers"),
            "input_space_and_range": Key("list", ("regular", "bt601_video"), default="regular"),
        },
        "calibration_parameters": {
            "cal_data_dir": Key("list"),
            "cal_data_type": Key("list", DATA_TYPES),
            "calibration_type": Key("text", ("default", "mix", "kl", "max", "load", "skip"), default="default"),
            "max_percentile": Key("number", low=0, high=1),
            "per_channel": Key("bool", default=False),
            "preprocess_on": Key("bool", default=False),
            "run_on_cpu": Key("list"),
            "run_on_bpu": Key("list"),
            "optimization": Key("list"),
            "enable_int16": Key("bool", deprecated="it only prints an error line"),
        },
        "compiler_parameters": {
            "compile_mode": Key("text", ("latency", "bandwidth", "balance"), default="latency"),
            "balance_factor": Key("int", low=0, high=100),
            "optimize_level": Key("text", ("O0", "O1", "O2", "O3"), default="O0"),
            "core_num": Key("int", low=1, high=2, default=1),
            "max_time_per_fc": Key("int", low=1000, high=2**32 - 1, zero=True, default=0),
            "jobs": Key("int", low=0),
            "advice": Key("int", low=0),
            "debug": Key("bool", default=True),
            "input_source": Key("map", default={}),
            "ability_entry": Key("text"),
        },
        "custom_op": {
            "custom_op_method": Key("text", ("register", "")),
            "op_register_files": Key("list"),
            "custom_op_dir": Key("text"),
        },
    }
