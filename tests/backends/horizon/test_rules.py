"""Every option has a rule, every example of the table an answer, and the reference verdicts hold."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ptqbridge.backends import TARGETS, resolve
from ptqbridge.backends.horizon.backend import BACKEND
from ptqbridge.backends.horizon.rules import RULES
from ptqbridge.options.table import BY_NAME, OPTIONS
from ptqbridge.plan import COMMON
from ptqbridge.rulebook import Outcome, Verdict

MARCHES = [name for name, backend in TARGETS.items() if backend == "horizon"]
FAMILIES = {"5": "bayes", "6": "nash-m"}


def answer(word: str, target: str) -> Outcome:
    """The rule's answer to one option as written, with nothing else given."""
    name, _, text = word.partition("=")
    return BACKEND.preview(name, BY_NAME[name].value.parse(text), resolve(target))


def test_rules_stand_in_the_order_of_the_table() -> None:
    expected = [option.name for option in OPTIONS if option.name not in COMMON]
    assert set(RULES) == set(expected)
    home = {name: index for index, name in enumerate(expected)}
    back = [after for before, after in pairwise(RULES) if home[after] < home[before]]
    # A rule shared by --dumpX and --exportX stands at the first of the two.
    assert back == ["dumpProfile", "dumpLayerInfo", "dumpOptimizationProfile"]


@pytest.mark.parametrize("target", MARCHES)
def test_every_example_is_answered_with_a_reason(target: str) -> None:
    for option in OPTIONS:
        if option.name in COMMON:
            continue
        for text in option.examples:
            outcome = BACKEND.preview(option.name, option.value.parse(text), resolve(target))
            written = f"--{option.name}={text} on {target}"
            assert outcome.because or outcome.verdict is Verdict.EXACT, written
            assert not outcome.because.endswith("."), written
            if outcome.verdict in (Verdict.EXACT, Verdict.APPROXIMATE):
                assert outcome.becomes, written
            if outcome.verdict in (Verdict.IGNORED, Verdict.REFUSED):
                assert not outcome.emits, written


def test_an_empty_value_is_as_if_not_given() -> None:
    outcome = BACKEND.preview("profilingVerbosity", None, resolve("bayes"))
    assert outcome.verdict is Verdict.IGNORED
    with pytest.raises(KeyError):
        BACKEND.preview("noSuchOption", True, resolve("bayes"))


REFERENCE = """
onnx=m.onnx exact exact
uff=m.uff refused refused
model=w.caffemodel exact exact
minShapes=x:1x3x4x4 exact exact
inputIOFormats=fp32:chw exact exact
inputIOFormats=fp32:hwc exact refused
inputIOFormats=int8:chw approximate approximate
inputIOFormats=fp16:chw refused refused
inputIOFormats=int32:chw refused refused
inputIOFormats=fp32:chw16 refused refused
outputIOFormats=fp32:chw implied implied
outputIOFormats=int8:chw approximate approximate
outputIOFormats=int32:chw approximate approximate
outputIOFormats=fp16:chw refused refused
workspace=1 ignored ignored
memPoolSize=workspace:1G ignored ignored
memPoolSize=dlaSRAM:1 ignored ignored
profilingVerbosity=layer_names_only implied implied
profilingVerbosity=detailed approximate approximate
profilingVerbosity=none approximate approximate
refit refused refused
sparsity=disable ignored ignored
sparsity=enable ignored ignored
sparsity=force refused refused
noTF32 implied implied
fp16 refused approximate
fp8 refused refused
int8 implied implied
best approximate approximate
precisionConstraints=none implied implied
precisionConstraints=prefer approximate approximate
precisionConstraints=obey approximate approximate
layerPrecisions=L:int8 exact exact
layerPrecisions=L:int16 exact exact
layerPrecisions=L:fp16 refused exact
layerPrecisions=L:fp32 approximate approximate
layerPrecisions=L:int32 refused refused
layerOutputTypes=L:int8 exact approximate
layerOutputTypes=L:fp16 refused approximate
layerOutputTypes=L:fp32 refused approximate
layerOutputTypes=L:int32 refused refused
layerDeviceTypes=L:DLA approximate approximate
layerDeviceTypes=L:GPU refused refused
layerDeviceTypes=L:CPU exact exact
calib=c.cache refused refused
saveEngine=m.bin exact exact
timingCacheFile=t.cache ignored approximate
builderOptimizationLevel=3 approximate approximate
versionCompatible implied implied
hardwareCompatibilityLevel=none implied implied
hardwareCompatibilityLevel=ampere+ refused refused
maxAuxStreams=4 ignored ignored
loadEngine=m.bin exact exact
loadInputs=x:x.bin approximate approximate
iterations=10 approximate approximate
duration=3 approximate exact
duration=-1 refused refused
warmUp=200 ignored approximate
warmUp=0 ignored approximate
sleepTime=0 ignored ignored
sleepTime=10 refused refused
idleTime=5 refused refused
infStreams=8 approximate approximate
infStreams=9 refused approximate
infStreams=33 refused refused
threads implied implied
exposeDMA ignored ignored
noDataTransfers implied implied
useSpinWait ignored ignored
useCudaGraph ignored ignored
timeDeserialize approximate approximate
timeRefit refused refused
separateProfileRun approximate approximate
skipInference exact exact
persistentCacheRatio=0 implied implied
persistentCacheRatio=0.5 ignored ignored
useRuntime=full implied implied
useRuntime=lean refused refused
leanDLLPath=l.so refused refused
avgRuns=10 ignored approximate
percentile=99 approximate approximate
dumpRefit refused refused
dumpLayerInfo implied implied
exportLayerInfo=l.json approximate approximate
dumpProfile approximate approximate
exportProfile=p.json approximate approximate
dumpOutput approximate approximate
exportTimes=t.json approximate approximate
device=0 approximate approximate
device=1 approximate refused
device=2 refused refused
useDLACore=0 approximate approximate
staticPlugins=p.so refused refused
staticPlugins=p.py approximate approximate
minTiming=1 ignored ignored
tempdir=/tmp ignored ignored
calibData=c exact exact
calibAlgo=max exact exact
calibAlgo=percentile exact exact
calibAlgo=entropy2 approximate approximate
calibAlgo=kl exact exact
calibAlgo=minmax approximate approximate
calibAlgo=mse refused refused
calibAlgo=legacy refused refused
calibAlgo=default exact exact
calibAlgo=mix exact approximate
preset=imagenet approximate approximate
preset=raw exact exact
memCap=1G ignored ignored
scheme=tensorrt ignored ignored
intraOpThreads=1 ignored ignored
toolchain=docker:image exact exact
toolchain=podman refused refused
board=ssh://root@board exact exact
board=somewhere refused refused
"""


@pytest.mark.parametrize("line", REFERENCE.strip().splitlines())
def test_reference_verdicts(line: str) -> None:
    word, journey5, journey6 = line.split()
    assert (str(answer(word, "bayes").verdict), str(answer(word, "nash-m").verdict)) == (journey5, journey6)


@pytest.mark.parametrize(
    ("word", "target", "becomes"),
    [
        ("builderOptimizationLevel=0", "bayes", "compiler_parameters.optimize_level: O0"),
        ("builderOptimizationLevel=5", "bayes", "compiler_parameters.optimize_level: O3"),
        ("builderOptimizationLevel=-1", "bayes", "compiler_parameters.optimize_level: O3"),
        ("builderOptimizationLevel=5", "nash-m", "compiler_parameters.optimize_level: O2"),
        ("builderOptimizationLevel=1", "nash-m", "compiler_parameters.optimize_level: O1"),
        ("duration=61", "bayes", "--perf_time=2"),
        ("duration=61", "nash-m", "--perf_time_in_seconds=61"),
        ("duration=1.5", "nash-m", "--perf_time_in_seconds=2"),
        ("device=0", "bayes", "--core_id=1"),
        ("useDLACore=1", "bayes", "--core_id=2"),
        ("device=3", "nash-p", "--core_id=4"),
        ("infStreams=8", "bayes", "--thread_num=8"),
        ("warmUp=0", "nash-m", "--enable_warmup=false"),
        ("iterations=1000", "nash-m", "--frame_count=1000"),
        ("std=0.5", "bayes", "input_parameters.scale_value: 2"),
        ("std=0.5", "nash-m", "input_parameters.std_value: 0.5"),
        ("calibPercentile=99.99", "bayes", "calibration_parameters.max_percentile: 0.9999"),
        ("memPoolSize=dlaSRAM:1", "nash-p", "compiler_parameters.max_l2m_size: 1048576"),
        ("fp16", "nash-e", "calibration_parameters.quant_config.model_config: {all_node_type: float16}"),
        ("layerPrecisions=a:fp16", "nash-e", "calibration_parameters.quant_config.node_config: {a: {qtype: float16}}"),
        ("layerPrecisions=a:int16", "bayes", "model_parameters.node_info: {a: {InputType: int16}}"),
        ("layerDeviceTypes=a:DLA", "bayes", "model_parameters.node_info: {a: {ON: BPU}}"),
        ("calibAlgo=entropy2", "bayes", "calibration_parameters.calibration_type: kl"),
        ("batch=4", "bayes", "input_parameters.input_batch: 4"),
    ],
)
def test_what_it_becomes(word: str, target: str, becomes: str) -> None:
    assert answer(word, target).becomes == becomes


def test_limits_are_refused_in_words() -> None:
    assert "24 MiB" in answer("memPoolSize=dlaSRAM:25", "nash-p").because
    assert answer("l2LimitForTiling=25165825", "nash-h").verdict is Verdict.REFUSED
    assert "int16" not in answer("fp16", "bernoulli2").because  # it has none to offer
    assert answer("layerPrecisions=a:int16", "bernoulli2").verdict is Verdict.REFUSED
    assert "only core 0" in answer("device=1", "bayes-e").because
    assert answer("calibPercentile=99", "bayes").verdict is Verdict.APPROXIMATE
    assert answer("calibPercentile=99", "nash-m").verdict is Verdict.EXACT
