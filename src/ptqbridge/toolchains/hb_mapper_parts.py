"""What an environment for hb_mapper 1.24.3 is made of, as data: packages, and stand-ins for what the tool only imports.

The tool imports torch when it starts, but for ONNX and Caffe models it only uses torch's names (annotations, isinstance
checks, tables of types, registrations); hb_perf wants Graphviz's ``dot`` only to draw a picture. So an environment
needs neither: the modules and the script below answer in their place. Observed with the real tool on x86-64 Linux.
"""

from __future__ import annotations

PYTHON = (3, 10)
"""The Python the tool's compiled parts were built for; they also link to its shared library."""

TOOL_VERSION = "1.24.3"

PACKAGES = (
    "rdkx5-yolo-mapper==1.0.0",
    "dgdk==1.0.0",
    "dg_nn_toolkit==1.0.0",
    "numpy==1.23.0",
    "onnx==1.15.0",
    "protobuf==3.20.3",
    "setuptools==65.7.0",
    "scipy==1.13.1",
    "scikit-image==0.22.0",
    "lazy_loader==0.4",
    "imageio==2.31.6",
    "tifffile==2025.5.10",
    "opencv-python-headless==4.6.0.66",
    "pillow==12.3.0",
    "click==8.5.1",
    "PyYAML==6.0.3",
    "schema==0.7.8",
    "tqdm==4.70.1",
    "tabulate==0.10.0",
    "Jinja2==3.1.6",
    "MarkupSafe==3.0.4",
    "graphviz==0.21",
    "multiprocess==0.70.19",
    "dill==0.4.1",
    "matplotlib==3.10.9",
    "cycler==0.12.1",
    "kiwisolver==1.5.1",
    "packaging==26.3",
    "pyparsing==3.3.3",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
    "paramiko==5.1.0",
    "bcrypt==5.0.0",
    "cffi==2.1.1",
    "cryptography==50.0.2",
    "invoke==3.0.3",
    "PyNaCl==1.6.2",
)
"""Everything the tool loads, and nothing it does not; installed without looking at what the packages say they need."""

_TORCH = '''\
"""Answers where the converter imports torch without using it. Whatever would compute something raises."""

__version__ = "0.0.0+ptqbridge"


class Missing(RuntimeError):
    """Something was used that only the real torch can do."""


class _Name:
    """Stands for a thing of torch that is mentioned and never used."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "torch." + self.name

    def __call__(self, *_args, **_kwargs):
        raise Missing("torch." + self.name + " was called, but torch is not installed here")


class dtype(_Name):
    pass


class Tensor:
    def __init__(self, *_args, **_kwargs):
        raise Missing("torch.Tensor was made, but torch is not installed here")


for _word in "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split():
    globals()[_word] = dtype(_word)
float = globals()["float32"]


def __getattr__(name):
    if name.startswith("__") or name in ("nn", "onnx"):  # those are modules
        raise AttributeError(name)
    return _Name(name)


from torch import nn, onnx
'''

_TORCH_NN = '''\
"""Base classes only."""


class Module:
    pass
'''

_TORCH_ONNX = '''\
"""Registrations are accepted and forgotten."""

from torch.onnx import symbolic_helper, symbolic_opset9


def register_custom_op_symbolic(*_args, **_kwargs):
    pass


def export(*_args, **_kwargs):
    raise RuntimeError("torch.onnx.export was called, but torch is not installed here")
'''

_SYMBOLIC_HELPER = '''\
"""Decorators that change nothing."""


def parse_args(*_kinds):
    return lambda function: function
'''

MODULES = {
    "torch/__init__.py": _TORCH,
    "torch/nn/__init__.py": _TORCH_NN,
    "torch/onnx/__init__.py": _TORCH_ONNX,
    "torch/onnx/symbolic_helper.py": _SYMBOLIC_HELPER,
    "torch/onnx/symbolic_opset9.py": '"""Nothing is registered here."""\n',
}
"""Files below the environment's package folder."""

DOT = """\
#!/bin/sh
# Stands in for Graphviz: answers -V, and makes the (empty) picture that was asked for.
picture= format=png source=
while [ $# -gt 0 ]; do
    case $1 in
    -V) echo "dot - graphviz version 0.0 (stand-in)" >&2; exit 0 ;;
    -T*) format=${1#-T} ;;
    -O) picture=beside ;;
    -o) shift; picture=$1 ;;
    -o*) picture=${1#-o} ;;
    -*) ;;
    *) source=$1 ;;
    esac
    shift
done
[ "$picture" = beside ] && picture=$source.$format
[ -z "$picture" ] || : > "$picture"
"""
"""The program ``dot`` of the environment."""
