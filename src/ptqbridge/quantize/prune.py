"""2:4 sparsity by force: of four weights in a row along the summed axis, the two smallest become zero.

The pattern is the one that NVIDIA's sparse tensor cores run (TensorRT developer guide, "Sparsity"). Without retraining
this costs accuracy.
"""

from __future__ import annotations

import numpy as np
import onnx

from ptqbridge.quantize.graph import attribute


def prune_two_of_four(proto: onnx.ModelProto) -> int:
    """Prune the constant float weights of Conv, Gemm and MatMul in place; returns how many were pruned.

    A weight whose summed axis is no multiple of four is left alone: the hardware cannot use it.
    """
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    done: set[str] = set()
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.input[1] in done:
            continue
        tensor = constants.get(node.input[1])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        summed = 1 if node.op_type == "Conv" or attribute(node, "transB", 0) else len(tensor.dims) - 2
        if tensor.dims[summed] % 4:
            continue
        weight = np.moveaxis(onnx.numpy_helper.to_array(tensor), summed, -1)
        groups = weight.reshape(-1, 4).copy()
        smallest = np.argsort(np.abs(groups), axis=1, kind="stable")[:, :2]
        np.put_along_axis(groups, smallest, 0.0, axis=1)
        pruned = np.moveaxis(groups.reshape(weight.shape), -1, summed)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(pruned), tensor.name))
        done.add(tensor.name)
    return len(done)
