"""What the user wants, in neutral terms: frozen dataclasses without a vendor's word in them."""

from ptqbridge.spec.build import BuildSpec, Calibration, ModelFile, Precision, Preprocess
from ptqbridge.spec.run import Expected, Reports, RunSpec
from ptqbridge.spec.shapes import Shape, ShapeRange
from ptqbridge.spec.tensor import IOFormat, TensorSpec

__all__ = [
    "BuildSpec",
    "Calibration",
    "Expected",
    "IOFormat",
    "ModelFile",
    "Precision",
    "Preprocess",
    "Reports",
    "RunSpec",
    "Shape",
    "ShapeRange",
    "TensorSpec",
]
