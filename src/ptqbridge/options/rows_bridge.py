"""The rows of our own options, in trtexec's style, for what trtexec has no word for."""

from __future__ import annotations

from ptqbridge.options.option import BRIDGE, CALIBRATION, INFERENCE, Option
from ptqbridge.options.values import Choice, Flag, Float, Int, Numbers, Path, Size, Text

ALGORITHMS = ("max", "minmax", "percentile", "entropy2", "entropy", "mse", "legacy", "kl", "default", "mix")
"""The algorithms of ``quantize.methods``; named here too, so that help needs no numpy (a test holds them together)."""
WITHOUT_SAMPLES = ("load", "skip")
"""Words for ranges that come from no samples: out of the model's own Q/DQ nodes, or from nowhere."""

# fmt: off
BRIDGE_ROWS = (
    Option("target", BRIDGE, Text(keep_empty=False), "What the artifact runs on: cpu, trt, bayes, nash-m, ..., or a"
        " chip such as j6m (may be repeated).", ("cpu",), default=(), repeats=True, ours=True),
    Option("config", BRIDGE, Path(), "YAML job file holding any of these options; the command line wins.",
        ("job.yaml",), default="", ours=True),
    Option("out", BRIDGE, Path(), "Folder for everything that is written; for calibrate its one product, whose"
        " suffix says the form.", ("out",), default="", ours=True),
    Option("json", BRIDGE, Flag(), "Print one JSON object instead of text.", ("",), ours=True),
    Option("strict", BRIDGE, Flag(), "Refuse an artifact whose quantization is made up, and options without effect.",
        ("",), ours=True),
    Option("toolchain", BRIDGE, Text(keep_empty=False), "Where vendor programs run: local, docker:IMAGE or ssh://HOST.",
        ("local",), default="local", ours=True),
    Option("board", BRIDGE, Text(keep_empty=False), "Where the artifact runs: ssh://USER@HOST or local.",
        ("ssh://root@board",), default="", ours=True),
    Option("toolchainVersion", BRIDGE, Choice(choices=("3.5", "3.0")), "Generation of hb_compile to write for"
        " (default: what is found, else 3.5).", ("3.0", "3.5"), default="", ours=True),
    Option("horizonYaml", BRIDGE, Path(), "YAML of hb_mapper's or hb_compile's own keys, laid over what the options"
        " give; null takes a key away.", ("overlay.yaml",), default="", ours=True),
    Option("fixShapes", BRIDGE, Flag(), "Fix dynamic dimensions in a copy of the model, to --shapes or a batch of 1,"
        " where the target needs it; outputs must stay equal.", ("",), ours=True),
    Option("convertOpset", BRIDGE, Flag(), "Bring a copy of the model to an ONNX opset and IR version the target takes;"
        " outputs must stay equal.", ("",), ours=True),
    Option("checkOperators", BRIDGE, Flag(), "Ask the vendor's checker before the build which operators run on the BPU;"
        " the answer is remembered.", ("",), ours=True),
    Option("calibData", CALIBRATION, Path(), "Calibration samples: a folder or .zip of images, .npy, .npz or"
        " raw files, one such array file, a .txt, .csv or .json list, or FILE.py:FUNCTION.", ("calib",), default="",
        ours=True),
    Option("calibAlgo", CALIBRATION, Choice(choices=(*ALGORITHMS, *WITHOUT_SAMPLES)),
        "How ranges are chosen from samples (default: the target's own); load: those of the model's Q/DQ nodes; skip:"
        " none, for timing only.", (*ALGORITHMS, *WITHOUT_SAMPLES), default="", ours=True),
    Option("calibSamples", CALIBRATION, Int(least=1), "Number of samples to use, spread evenly (default: all).",
        ("100",), ours=True),
    Option("calibBatch", CALIBRATION, Int(least=1), "Samples per calibration inference; never changes the ranges.",
        ("1",), default=1, ours=True),
    Option("calibPercentile", CALIBRATION, Float(unit="percent", least=0, most=100),
        "Share of absolute values inside the range, for --calibAlgo=percentile.", ("99.99",), default=99.99, ours=True),
    Option("calibCutoff", CALIBRATION, Float(least=0, most=1),
        "Regression cut-off of the legacy method, as a share of the maximum, for --trtCalibrator=legacy and for"
        " calibrate --calibAlgo=legacy.",
        ("0.5",), default=1.0, ours=True),
    Option("calibSeed", CALIBRATION, Int(),
        "Seed of the choice that --calibSamples makes, and of noise when there is no data.", ("0",), default=0,
        ours=True),
    Option("skipBroken", CALIBRATION, Int(least=0), "Unreadable samples to pass over before giving up.", ("0",),
        default=0, ours=True),
    Option("memCap", CALIBRATION, Size(), "Memory that calibration may take: MiB, or with a unit K, M or G;"
        " tensors are then seen in groups, one pass each.", ("2G",), ours=True),
    Option("calibCheckpoint", CALIBRATION, Path(), "File that calibration saves its state in now and then, and goes on"
        " from after an interruption.", ("calib.state",), default="", ours=True),
    Option("scheme", CALIBRATION, Choice(choices=("tensorrt", "horizon", "onnxruntime")),
        "Whose placement of quantization calibrate finds ranges for (default: what --out and --target say).",
        ("tensorrt", "horizon", "onnxruntime"), default="", ours=True),
    Option("trtVersion", BRIDGE, Text(keep_empty=False), "TensorRT version to plan for (explain takes several with"
        " commas between), and of the cache that calibrate writes.", ("8.6.1", "10.13.3"), default="8.6.1", ours=True),
    Option("emitScript", BRIDGE, Path(), "Python program to write that builds the engine with the plan's calls, without"
        " ptqbridge.", ("build.py",), default="", ours=True),
    Option("trtCalibrator", CALIBRATION, Choice(choices=("entropy2", "entropy", "minmax", "legacy")),
        "TensorRT calibrator in the header of a cache that calibrate writes (default: as --calibAlgo).",
        ("entropy2",), default="", ours=True),
    Option("preset", CALIBRATION, Choice(choices=("imagenet", "coco-letterbox", "raw")),
        "Ready image preprocessing to start from; --mean, --resize and so on change parts of it.",
        ("imagenet", "coco-letterbox", "raw"), default="", ours=True),
    Option("mean", CALIBRATION, Numbers(fractions=True), "Mean per channel, subtracted after --scale.",
        ("0.485,0.456,0.406",), default=(), ours=True),
    Option("std", CALIBRATION, Numbers(nonzero=True, fractions=True),
        "Standard deviation per channel, divided by after --mean.", ("0.229,0.224,0.225",), default=(), ours=True),
    Option("scale", CALIBRATION, Numbers(nonzero=True, fractions=True),
        "Factor per channel that pixel values are multiplied by first.", ("1/255",), default=(), ours=True),
    Option("resize", CALIBRATION, Text(keep_empty=False), "How images reach the input size: stretch[:HxW],"
        " letterbox[:HxW][:GREY], crop[:HxW][:SHORTER|P%] or none (default: stretch to the model's size).",
        ("stretch:224x224",), default="", ours=True),
    Option("resizeFilter", CALIBRATION, Choice(choices=("bilinear", "bicubic", "nearest", "lanczos")),
        "How pixels are interpolated when images are resized (default: bilinear).", ("bilinear", "bicubic"),
        default="", ours=True),
    Option("color", CALIBRATION, Choice(choices=("rgb", "bgr", "gray")),
        "Channel order the model was trained with (default: rgb, or gray for one channel).",
        ("rgb", "bgr", "gray"), default="", ours=True),
    Option("layout", CALIBRATION, Choice(choices=("nchw", "nhwc")),
        "Axis order of the image input (default: as the model's shape shows).", ("nchw", "nhwc"),
        default="", ours=True),
    Option("intraOpThreads", INFERENCE, Int(least=0), "Threads inside one query on cpu; 0 shares the cores out evenly.",
        ("0", "1"), default=0, ours=True),
    Option("verify", INFERENCE, Choice(choices=("sim",)),
        "Compare the compiled code, run by the compiler's simulator, with"
        " the quantized model, bit by bit.", ("sim",), default="", ours=True),
    Option("sweepThreads", INFERENCE, Numbers(least=1, most=64), "Numbers of frames in flight to time one after the"
        " other on a board; a table of all comes out.", ("1,2,4,8",), default=(), ours=True),
    Option("sweepCores", INFERENCE, Numbers(least=0, most=3), "BPU cores to time one after the other on a board.",
        ("0,1",), default=(), ours=True),
)
