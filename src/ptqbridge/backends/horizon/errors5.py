"""Known failures of hb_mapper: the cause in its log becomes one line of ours, a hint and an exit status.

Every pattern was seen in the output of hb_mapper 1.24.3. The first that matches wins, so the special ones stand first.
"""

from __future__ import annotations

import re

from ptqbridge.backends.horizon.known import Known, explain
from ptqbridge.backends.horizon.logs5 import entries, parse_log
from ptqbridge.errors import InputError, OptionError, PtqbridgeError, ToolchainFailed, ToolchainMissing

_UNKNOWN = "ptqbridge does not know this failure; the tool's log holds the details"
_REFUSED = "unsupported model"
"""How the BPU compiler's useful sentence begins."""


CATALOGUE = (
    # model
    Known(
        r"The opset version of the model is (\d+), the maximum supported version is (\d+)",
        InputError,
        "the model has ONNX opset {0}, and at most {1} is taken",
        "export it with opset 11",
    ),
    Known(
        r"The ir version of the model is (\d+), which is greater than the maximum supported ir version of (\d+)",
        InputError,
        "the model has ONNX IR version {0}, and at most {1} is taken",
        "save it with ir_version 9 or lower",
    ),
    Known(
        r"There is no node can execute on BPU in this model",
        InputError,
        "no node of the model can run on the BPU",
        "at least one Conv, Gemm or MatMul with constant weights is needed, and not all nodes may be asked for the CPU",
    ),
    Known(
        r"HorizonRT not support these cpu operators: ([\w, ]+)",
        InputError,
        "the board's runtime has no CPU implementation of {0}",
        "cut these nodes off the model, or replace them",
    ),
    Known(r"unsupported domain detected in model", InputError, "the model uses operators outside the ONNX standard"),
    Known(
        r"(?:The onnx model is invalid \(shape_inference or model_check failed\)|error during shape inference, error "
        r"message: (.+))",
        InputError,
        "the tool finds the model invalid {0}",
        "onnx.checker.check_model shows where",
    ),
    Known(
        r"upported input data type",
        InputError,
        "the model's element types are not taken: weights and inputs must be float32",
    ),
    Known(
        r"Error Node Info\(name: ?([^;]*); kind: ?(\w+)\)",
        InputError,
        "the tool cannot convert node {0} ({1})",
        "leave this part out of the model, or replace it",
    ),
    Known(r"Only allow to append input for main graph", InputError, "the model has subgraphs (If, Loop, Scan)"),
    Known(
        r"(?:Error parsing message with type 'onnx\.ModelProto'|Protobuf decoding consumed too few bytes)",
        InputError,
        "the model is no ONNX file, or is cut off",
    ),
    Known(
        r"^'str' object has no attribute 'decode'",
        InputError,
        "the tool cannot read the output_shape of a PyOp",
        "give the shape of its output as value_info of the model",
    ),
    Known(r"can't find input in model", InputError, "the model has no input"),
    Known(
        r"The input (\S+) has the dynamic input_shape (\S+) but|For input (\S+), the input shape (.+?) is invalid",
        InputError,
        "input {0}{2} has dynamic dimensions ({1}{3})",
        "--shapes=NAME:1x3x224x224 fixes them",
    ),
    Known(
        r"The input_shape (\[.*?\]) of the model is a dynamic shape",
        InputError,
        "the model's input is dynamic ({0})",
        "--shapes=NAME:1x3x224x224 fixes it",
    ),
    Known(r"Invalid nv12 input shape: (\[.*?\])", InputError, "nv12 needs even height and width, found {0}"),
    Known(
        r"find NaN threshold in (\S+?),? Please check",
        InputError,
        "calibration found NaN at {0}: the weights or the calibration data hold NaN",
        "lint-data finds the sample",
    ),
    Known(
        r"cannot reshape array of size (\d+) into shape \(([\d, ]+)\)[\s\S]*while horizon_nn",
        InputError,
        "the input shapes do not fit the model: {0} elements cannot become ({1})",
        "--shapes gives the shapes of the inputs",
    ),
    Known(
        r"For input (\S+), the rank of target shape \((\d+)\) does not match the rank of model shape \((\d+)\)",
        InputError,
        "input {0} has {2} dimensions, a shape with {1} was given",
        "--shapes gives the shapes of the inputs",
    ),
    Known(
        r"Can not find (?:onnx_model|caffe_model|prototxt) file given: ([^,\n]+)|user input model is not a file: (.+)"
        r"|Invalid value for '--(?:model|proto)': Path '(.*)' does not exist",
        InputError,
        "the model {0}{1}{2} does not exist",
    ),
    Known(r"Onnx file invalid: '([^']*)'", InputError, "the model {0} must be an .onnx file"),
    Known(
        r"^(\d+)\n\(while runtime\.runtime_model_generation",
        InputError,
        "an input or output of the model has an element type that the board's runtime lacks (its number {0})",
        "bool is one: cast it to float32 or int32 inside the model",
    ),
    Known(
        r"^'([^'\n]+)'\n\(while horizon_nn",
        OptionError,
        "the model has no node {0}",
        "output_nodes and the like take the names of nodes, not of tensors",
    ),
    # calibration data
    Known(
        r"Cannot cast ufunc '\w+' output from dtype\('\w+'\) to dtype\('(\w+)'\)",
        InputError,
        "calibration data in {0} cannot be brought to the input type of the board",
        "cal_data_type float32 with values of 0 to 255 always can",
    ),
    Known(
        r"cannot reshape array of size (\d+) into shape \(([\d, ]+)\)",
        InputError,
        "a calibration sample has {0} elements, expected the shape ({1})",
        "raw files without a header, one full input each, of the declared type",
    ),
    Known(r"Directory (\S+) is empty, please check calibration", InputError, "the calibration folder {0} is empty"),
    Known(r"Cal_data_dir does not exist: (\S+)", InputError, "the calibration folder {0} does not exist"),
    Known(
        r"Wrong cal_dir num given, cal_dir num (\d+) is not equal to input num (\d+)",
        InputError,
        "{0} calibration folders for {1} inputs",
    ),
    Known(
        r"received wrong num of data\s+Previous num of sample: (\d+), Input (\S+?)'s num of sample: (\d+)",
        InputError,
        "input {1} has {2} calibration samples, the others {0}",
    ),
    Known(
        r"Unexpected data type for input: (\S+) , Expected: (\w+), Actual: (\w+)",
        InputError,
        "the calibration data of {0} are {2}, the model wants {1}",
    ),
    # disk and place
    Known(r"\[Errno 28\]|Failed to write \d+ bytes to output stream", InputError, "the disk is full"),
    Known(r"\[Errno 30\][^\n']*'?([^'\n]*)", InputError, "the file system is read-only: {0}"),
    Known(r"\[Errno (?:13|1)\] [^:\n]*: '([^']*)'", InputError, "no permission to use {0}"),
    Known(r"\[Errno (?:2|20|21)\] ([^:\n]*): '([^']*)'", InputError, "{1}: {0}"),
    # configuration
    Known(
        r"The optimization parameter: (\S+) is not supported by BPU March: ?([\w-]+)",
        OptionError,
        "calibration_parameters.optimization: there is no '{0}' on {1}",
        "set_all_nodes_int16, set_model_output_int8, set_Softmax_input_int16, asymmetric and bias_correction are some",
    ),
    Known(
        r"^expected string or bytes-like object",
        OptionError,
        "a word of the YAML is no text where one is expected",
        "write 'ON' of node_info in quotes: YAML reads the bare word as true",
    ),
    Known(
        r"Currently only support is (\[.*?\])",
        OptionError,
        "node_info: a word is none of {0}",
        "types and devices are case-sensitive; float32 is said as 'ON': 'CPU'",
    ),
    Known(
        r"The format you gave is ([\s\S]+?), ?currently we only support",
        OptionError,
        "node_info cannot be read: {0}",
        "a mapping always can: node: {'ON': 'CPU', 'InputType': 'int16', 'OutputType': 'int16'}",
    ),
    Known(
        r"Unsupported datatype settings for march (\S+?): (\w+)",
        OptionError,
        "{0} has no {1}",
        "int8 is its only type; --layerDeviceTypes=NODE:CPU computes in float32",
    ),
    Known(
        r"(\w+) not support execute one model on (\d+) core",
        OptionError,
        "the compiler for {0} cannot spread one model over {1} cores",
        "leave core_num out; the board runs several inferences side by side",
    ),
    Known(
        r"^'(featuremap)'$",
        OptionError,
        "preprocess_on reads pictures, and the input is a {0}",
        "name raw samples in cal_data_dir, or set input_type_rt to a kind of picture",
    ),
    Known(
        r"The size of (mean|scale) does not match input channel",
        OptionError,
        "{0}_value needs one number, or one per channel of the input",
    ),
    Known(
        r"^Argument '([^']*)' failed to parse",
        OptionError,
        "its compiler does not know the argument '{0}'",
        "ability_entry is passed to it as it is",
    ),
    Known(r"Custom_op_dir '([^']*)' does not exist", InputError, "custom_op_dir {0} does not exist"),
    Known(
        r"^(?:expected str, bytes or os\.PathLike object, not NoneType|onnx or caffe model is required)",
        OptionError,
        "it was given neither a model nor a configuration",
        "--model FILE, or --config FILE with onnx_model in it",
    ),
    Known(
        r"please consider turn off fast-perf or cancel the incoming config file",
        OptionError,
        "--fast-perf and --config do not go together",
    ),
    Known(
        r"Wrong key '([^']*)' in",
        OptionError,
        "there is no YAML key '{0}'",
        "docs/horizon.md lists the keys",
    ),
    Known(r"Missing key: '([^']*)'", OptionError, "the YAML lacks '{0}'"),
    Known(
        r"User input (\w+) invalid:? ?,? ?'([^']*)' ?\.? ?(?:It )?should (?:be )?in (?:the )?list (\[.*?\])",
        OptionError,
        "{0} cannot be '{1}'; known are {2}",
    ),
    Known(r"'--march': '([^']*)' is not one of (.+)", OptionError, "there is no march '{0}'; known are {1}"),
    Known(
        r"^(?:Error: )?(Invalid (?!value)\w[^\n]{5,}|Wrong num of [^\n]+|Input_(?:layout|type)\w* [^\n]+|"
        r"Input name does not exist[^\n]+|Your input [^\n]+|Input shape parse failed[^\n]+|"
        r"Model has more than one input[^\n]+|model_type [^\n]+|wrong model type [^\n]+|model type is [^\n]+|"
        r"Wrong core num [^\n]+|Wrong input_source [^\n]+|Parameter \w+ [^\n]+|Norm type given [^\n]+|"
        r"\w+ value not given[^\n]+|Input_batch [^\n]+|Input \d+ has input_type_rt [^\n]+|Custom_op_\w+ [^\n]+|"
        r"Key '[\s\S]+)",
        OptionError,
        "the configuration is refused: {0}",
    ),
    Known(r"^(while (?:parsing|scanning)[\s\S]+)", OptionError, "the configuration is no YAML: {0}"),
    Known(r"(\S+) should be instance of 'dict'", OptionError, "the configuration must be a mapping, found {0}"),
    Known(r"^'(march|onnx_model)'", OptionError, "the YAML lacks '{0}'"),
    Known(
        r"^Error: (No such option[^\n]*|Invalid value for [^\n]*|Missing option[^\n]*)",
        OptionError,
        "the command line is refused: {0}",
    ),
    Known(r"delete node failed", OptionError, "the nodes asked for could not be removed"),
    # the tool itself
    Known(
        r"can not find hbdk library",
        ToolchainMissing,
        "its compiler (hbdk) was not found",
        "the folder of hb_mapper must be first on PATH",
    ),
    Known(
        r"error while loading shared libraries: ([^:\s]+)",
        ToolchainMissing,
        "the library {0} is missing",
        "hb_mapper needs a Python 3.10 with a shared library",
    ),
    Known(
        r"ModuleNotFoundError: No module named '([^']*)'",
        ToolchainMissing,
        "the installation of hb_mapper lacks the Python package {0}",
        "ptqbridge toolchain install hb-mapper VENV makes a complete one",
    ),
    Known(r"^(?:ERROR: )?(unsupported model: [^\n]+)", InputError, "the BPU compiler refuses the model: {0}"),
    Known(
        r"No module named|cannot import name '([^']*)'",
        ToolchainMissing,
        "the installation is broken or something else is imported instead ({0})",
    ),
    Known(r"^Aborted!", ToolchainFailed, "it was interrupted"),
    Known(
        r"launch \d+ threads for optimization(?![\s\S]*(?:unsupported|error))",
        ToolchainFailed,
        "the BPU compiler ended without saying why",
        "it may have been killed: memory may have run out",
    ),
    Known(r"MemoryError|bad_alloc|Cannot allocate memory", ToolchainFailed, "memory ran out"),
    Known(
        r"^([A-Z]\w*(?:Error|Exception): [^\n]+)",
        ToolchainFailed,
        "it broke off: {0}",
        "a fault of the tool or of its installation; its log shows where",
    ),
)


def explain_failure(text: str, status: int, *, tool: str = "hb_mapper") -> PtqbridgeError:
    """The error for a failed run: from its log and its exit status (negative after a signal)."""
    return explain(CATALOGUE, _causes(text), status, tool=tool, unknown=_UNKNOWN)


def _causes(text: str) -> list[str]:
    """What may hold the cause, best first: the announced failure, error records (last first), the plain last lines."""
    record = parse_log(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = []
    if record.failure:
        stage, message = record.failure
        # The BPU compiler's useful sentence stands somewhere in what follows.
        found += [line[line.index(_REFUSED) :] for line in lines if _REFUSED in line]
        found.append(f"{message or 'no reason given'}\n(while {stage})")
    found += reversed(record.errors)
    plain = [line for line in lines if not entries(line)]
    found += [line for line in reversed(plain) if re.match(r"(?:[\w.]*Error|ERROR)\b", line)]
    found += plain[-1:]
    if any("*** ERROR-OCCUR" in cause for cause in found):
        found = [cause for cause in found if "*** ERROR-OCCUR" not in cause] or found
    return found
