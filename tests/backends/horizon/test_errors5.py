"""The catalogue of hb_mapper's failures."""

from __future__ import annotations

import re

import pytest

from ptqbridge.backends.horizon.errors5 import CATALOGUE, explain_failure

STAMP = "2030-01-02 03:04:05,678"


def record(text: str, level: str = "ERROR") -> str:
    return f"{STAMP} \x1b[91m{level}\x1b[0m {text}\n"


def during(stage: str, text: str) -> str:
    """A failure as the tool announces it; the last line is no error."""
    return record(f"*** ERROR-OCCUR-DURING {{{stage}}} ***, error message: {text}") + record("End", "INFO")


NN = "horizon_nn.build_onnx"
# what the tool says, our exit status, our words
CASES = (
    (during(NN, "The opset version of the model is 13, the maximum supported version is 11."), 3, "opset 13"),
    (
        during(
            NN,
            "The ir version of the model is 11, which is greater than the maximum supported ir version of 9.",
        ),
        3,
        "IR version 11, and at most 9",
    ),
    (during(NN, "ERROR: There is no node can execute on BPU in this model, please"), 3, "no node of the model"),
    (during("runtime.runtime_model_generation", "HorizonRT not support these cpu operators: NonZero"), 3, "NonZero"),
    (during(NN, "unsupported domain detected in model"), 3, "outside the ONNX standard"),
    (during(NN, "There is a Pass Error occured:\nError Node Info(name:c3d; kind:HzConv)."), 3, "node c3d (HzConv)"),
    (during(NN, "Only allow to append input for main graph."), 3, "subgraphs"),
    (record("Protobuf decoding consumed too few bytes: 1 out of 5000"), 3, "no ONNX file"),
    (record("Error parsing message with type 'onnx.ModelProto'"), 3, "no ONNX file"),
    (record("The input x has the dynamic input_shape 1x3x0x0 but the dynamic"), 3, "input x has dynamic"),
    (record("Invalid nv12 input shape: [1, 3, 27, 27], nv12 type"), 3, "even height and width, found [1, 3, 27, 27]"),
    (during(NN, "find NaN threshold in w_HzCalibration, Please check if your model"), 3, "NaN at w_HzCalibration"),
    (record("cannot reshape array of size 1680 into shape (1,3,28,28)"), 3, "1680 elements, expected the shape (1,3"),
    (during(NN, "cannot reshape array of size 31360 into shape (10,4096,1,1)"), 3, "shapes do not fit the model"),
    (record("Directory a/b is empty, please check calibration pics"), 3, "folder a/b is empty"),
    (record("Cal_data_dir does not exist: a/b"), 3, "folder a/b does not exist"),
    (during(NN, "Input feat received wrong num of data\nPrevious num of sample: 5, Input feat's num of sample: 4"), 3,
     "input feat has 4 calibration samples, the others 5"),
    (during(NN, "[Errno 28] No space left on device"), 3, "the disk is full"),
    ("ERROR:root:[Errno 30] Read-only file system: 'w/hb_mapper.log'\n", 3, "read-only: w/hb_mapper.log"),
    (record("[Errno 21] Is a directory: 'cal/sub'"), 3, "cal/sub: Is a directory"),
    (record("Key 'calibration_parameters' error:\nWrong key 'calib_type' in {}"), 2, "no YAML key 'calib_type'"),
    (record("Missing key: 'input_parameters'"), 2, "lacks 'input_parameters'"),
    (record("'march'"), 2, "lacks 'march'"),
    (record("User input march invalid: 'nash-e' . It should in list ['bayes']"), 2, "march cannot be 'nash-e'"),
    (record("User input optimize_level invalid, 'O4' should in list ['O0']"), 2, "optimize_level cannot be 'O4'"),
    (record("Invalid max_percentile: 1.5, avaliable range: 0~1"), 2, "Invalid max_percentile: 1.5"),
    ("Error: Invalid value for '--march': 'x' is not one of 'bayes', 'bayes-e'.\n", 2, "there is no march 'x'"),
    (during(NN, "can not find hbdk library\nThe error model has been saved as x_pass_fail.onnx"), 4, "(hbdk) was not"),
    ("python: error while loading shared libraries: libpython3.10.so.1.0: cannot open\n", 4, "libpython3.10.so.1.0"),
    ("Traceback (most recent call last):\nModuleNotFoundError: No module named 'hmct'\n", 4, "package hmct"),
    (during(NN, "'nosuch'"), 2, "the model has no node nosuch"),
    (record("'featuremap'"), 2, "preprocess_on reads pictures"),
    (during(NN, "ERROR: The optimization parameter: set_x is not supported by BPU March:bayes. Please check"), 2,
     "no 'set_x' on bayes"),
    (record("expected string or bytes-like object"), 2, "no text where one is expected"),
    (record("Currently only support is ['int8', 'int16']"), 2, "none of ['int8', 'int16']"),
    (record("The format you gave is a:int16;b:int16, currently we only support Conv_0:int16;Conv_1:int16"), 2,
     "cannot be read: a:int16;b:int16"),
    (during(NN, "Unsupported datatype settings for march bernoulli/bernoulli2: int16"), 2, "has no int16"),
    (during("hbdk.hbdk-cc", 'INFO: "-j"')
     + "ERROR: unsupported model: BAYES not support execute one model on 2 core simultaneously now.\n", 2,
     "the compiler for BAYES cannot spread one model over 2 cores"),
    (record("Wrong core num setting given, 3 should in range [1, 2]"), 2, "Wrong core num setting given, 3"),
    (record("Cannot cast ufunc 'add' output from dtype('float64') to dtype('uint8') with casting rule 'same_kind'"), 3,
     "calibration data in uint8"),
    (record("Parameter compile_mode is set to balance, please set balance_factor to use this mode"), 2,
     "please set balance_factor"),
    (record("Mean value not given: input 0 norm type ['data_mean'] require mean value input but not given"), 2,
     "Mean value not given"),
    (during(NN, "The size of mean does not match input channel."), 2, "mean_value needs one number"),
    (record("Norm type given invalid: 'xx' should in list ['no_preprocess']"), 2, "Norm type given invalid: 'xx'"),
    (record("Input_batch value should between 1 and 4096, got 0"), 2, "between 1 and 4096, got 0"),
    (record("Wrong input_source received. input type rt : featuremap does not support input_source resizer"), 2,
     "does not support input_source resizer"),
    (record("Input 0 has input_type_rt yuv444 with input_layout_rt NCHW is not supported on bernoulli2 for now."), 2,
     "not supported on bernoulli2"),
    (record("Custom_op_dir './nodir' does not exist"), 3, "custom_op_dir ./nodir does not exist"),
    (during("hbdk.hbdk-cc", "Argument 'x' failed to parse"), 2, "does not know the argument 'x'"),
    (record("expected str, bytes or os.PathLike object, not NoneType"), 2, "neither a model nor a configuration"),
    (record("onnx or caffe model is required"), 2, "neither a model nor a configuration"),
    (record("please consider turn off fast-perf or cancel the incoming config file"), 2, "do not go together"),
    (record("model type is caffe but can not find caffe_model in config yaml, please check 'caffe_model'"), 2,
     "can not find caffe_model"),
    (during("runtime.runtime_model_generation", "14"), 3, "element type that the board's runtime lacks"),
    ("Traceback (most recent call last):\nRuntimeError: broken here\n", 5, "it broke off: RuntimeError: broken here"),
    (during("hbdk.hbdk-cc", 'INFO: "-j" is not specified') + "ERROR: unsupported model: Layer Conv_3 too wide\n", 3,
     "unsupported model: Layer Conv_3 too wide"),
    (during("hbdk.hbdk-cc", 'INFO: "-j" or "--jobs" is not specified, launch 2 threads for optimization'), 5,
     "ended without saying why"),
)  # fmt: skip


@pytest.mark.parametrize(("log", "status", "words"), CASES)
def test_known(log: str, status: int, words: str) -> None:
    error = explain_failure(log, 255)
    assert error.exit_status == status
    assert words in error.message
    assert error.message.startswith("hb_mapper: ")
    assert "\n" not in error.message


def test_the_unknown_is_shown_as_it_is() -> None:
    error = explain_failure(record("something\nnew"), 255)
    assert error.exit_status == 5
    assert error.message == "hb_mapper failed with exit status 255: something new"
    assert "said nothing" in explain_failure("", 1).message


def test_an_error_line_before_the_cause_does_not_hide_it() -> None:
    log = record("enable_int16 is deprecated") + during(NN, "The opset version of the model is 13, the maximum "
                                                        "supported version is 11.")  # fmt: skip
    assert "opset 13" in explain_failure(log, 255).message


@pytest.mark.parametrize(("status", "name"), [(-9, "SIGKILL"), (-15, "SIGTERM")])
def test_signals(status: int, name: str) -> None:
    error = explain_failure(record("x"), status)
    assert (error.exit_status, error.message) == (5, f"hb_mapper was ended by {name}")


def test_every_pattern_compiles_and_fits_its_words() -> None:
    for known in CATALOGUE:
        groups = re.compile(known.pattern).groups
        assert known.says.format(*"x" * groups)
