"""The benchmark models, generated: ResNet18-224, MobileNetV2-224, YOLOv5s-320, ViT-tiny-224 shapes with random weights.

Weights are He-initialised and every BatchNormalization is settled on one seeded image (its statistics are those of what
reaches it), so that activations have the scale of a trained network's. The shapes follow the public descriptions:
ResNet (arXiv 1512.03385), MobileNetV2 (arXiv 1801.04381), YOLOv5 v6 (ultralytics/yolov5 models/yolov5s.yaml),
ViT/DeiT-tiny (arXiv 2012.12877). Files are cached outside the checkout.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph under construction; every method adds nodes and returns the name of the new tensor."""

    def __init__(self, shape: tuple[int, ...], opset: int, seed: int = 0, dynamic: bool = False) -> None:
        self.shape, self.opset = shape, opset
        self.batch: int | str = "batch" if dynamic else shape[0]
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.norms: list[str] = []  # prefixes of the parameters
        self.count = 0

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        self.count += 1
        names = [f"{op.lower()}_{self.count}" + (f"_{item}" if item else "") for item in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"/{op}_{self.count}", **attributes))
        return names[0]

    def weight(self, value: np.ndarray, name: str = "") -> str:
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def conv(
        self, x: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, norm: bool = True
    ) -> str:
        fan = cin // groups * kernel * kernel
        w = self.weight(
            (self.random.standard_normal((cout, cin // groups, kernel, kernel)) * (2 / fan) ** 0.5).astype("f")
        )
        inputs = [x, w] if norm else [x, w, self.weight(self.random.uniform(-0.1, 0.1, cout).astype("f"))]
        pad = kernel // 2 - (kernel == 6)  # YOLOv5 starts with a 6x6 kernel, stride 2, padding 2
        y = self.node(
            "Conv",
            inputs,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
            dilations=[1, 1],
        )
        if not norm:
            return y
        prefix = f"bn{len(self.norms)}"
        self.norms.append(prefix)
        values = (
            self.random.uniform(0.7, 1.3, cout),
            self.random.uniform(-0.2, 0.2, cout),
            np.zeros(cout),
            np.ones(cout),
        )
        names = [
            self.weight(value.astype("f"), f"{prefix}.{part}")
            for part, value in zip(("gamma", "beta", "mean", "var"), values, strict=True)
        ]
        return self.node("BatchNormalization", [y, *names], epsilon=1e-5)

    def linear(self, x: str, cin: int, cout: int) -> str:
        w = self.weight((self.random.standard_normal((cin, cout)) * cin**-0.5).astype("f"))
        y = self.node("MatMul", [x, w])
        return self.node("Add", [y, self.weight(self.random.uniform(-0.02, 0.02, cout).astype("f"))])

    def model(self, outputs: dict[str, list[int | str | None]]) -> onnx.ModelProto:
        shape = [self.batch, *self.shape[1:]]
        graph = helper.make_graph(
            self.nodes,
            "benchmark",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        self._settle(model)
        return model

    def _settle(self, model: onnx.ModelProto) -> None:
        """Give every BatchNormalization the mean and variance of what reaches it on one seeded image.

        One run does it: in a copy each of them is replaced by the arithmetic that normalises with the statistics of
        its own input, which are made outputs.
        """
        import onnxruntime

        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        del probe.graph.node[:], probe.graph.output[:]
        for node in model.graph.node:
            if node.op_type != "BatchNormalization":
                probe.graph.node.append(node)
                continue
            x, y, prefix = node.input[0], node.output[0], node.input[1].removesuffix(".gamma")

            def add(op: str, inputs: list[str], output: str, **attributes: object) -> None:
                probe.graph.node.append(helper.make_node(op, inputs, [output], **attributes))

            add("ReduceMean", [x], f"{prefix}.m", axes=[0, 2, 3])
            add("Sub", [x, f"{prefix}.m"], f"{prefix}.centred")
            add("Mul", [f"{prefix}.centred"] * 2, f"{prefix}.square")
            add("ReduceMean", [f"{prefix}.square"], f"{prefix}.v", axes=[0, 2, 3])
            add("Add", [f"{prefix}.v", "small"], f"{prefix}.v_safe")
            add("Sqrt", [f"{prefix}.v_safe"], f"{prefix}.deviation")
            add("Div", [f"{prefix}.centred", f"{prefix}.deviation"], f"{prefix}.unit")
            for op, part, source, result in (
                ("Mul", "gamma", "unit", f"{prefix}.scaled"),
                ("Add", "beta", "scaled", y),
            ):
                add(
                    "Unsqueeze",
                    [f"{prefix}.{part}", *self._axes(probe, prefix)],
                    f"{prefix}.{part}4",
                    **self._axes_attr(),
                )
                add(op, [f"{prefix}.{source}", f"{prefix}.{part}4"], result)
        probe.graph.initializer.append(numpy_helper.from_array(np.float32(1e-3), "small"))
        wanted = [f"{prefix}.{part}" for prefix in self.norms for part in ("m", "v_safe")]
        if not wanted:
            return
        probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = iter(session.run(wanted, {"input": images(self.shape, 1, seed=7)[0]}))
        parameters = {tensor.name: tensor for tensor in model.graph.initializer}
        for prefix in self.norms:
            for part in ("mean", "var"):
                parameters[f"{prefix}.{part}"].raw_data = next(values).astype("f").tobytes()

    def _axes_attr(self) -> dict[str, list[int]]:
        return {"axes": [1, 2]} if self.opset < 13 else {}

    def _axes(self, probe: onnx.ModelProto, prefix: str) -> list[str]:
        if self.opset < 13:
            return []
        if all(tensor.name != "axes12" for tensor in probe.graph.initializer):
            probe.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "axes12"))
        return ["axes12"]


def images(shape: tuple[int, ...], count: int, seed: int = 0) -> list[np.ndarray]:
    """Seeded images of 1/f noise per channel, normalised to mean 0 and deviation 1, as natural images roughly are."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(shape[2])[:, None], np.fft.rfftfreq(shape[3])[None]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / max(shape[2:]))
    found = []
    for _ in range(count):
        spectrum = np.fft.rfft2(random.standard_normal(shape)) * falloff
        image = np.fft.irfft2(spectrum, shape[2:])
        found.append(((image - image.mean()) / image.std()).astype("f"))
    return found


def resnet18(opset: int = 11, size: int = 224, dynamic: bool = False) -> onnx.ModelProto:
    """ResNet18, 1000 classes."""
    net = Net((1, 3, size, size), opset, 18, dynamic)
    x = net.node("Relu", [net.conv("input", 3, 64, 7, 2)])
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = net.node("Relu", [net.conv(x, channels, width, 3, stride)])
            y = net.conv(y, width, width, 3)
            skip = net.conv(x, channels, width, 1, stride) if stride > 1 or channels != width else x
            x = net.node("Relu", [net.node("Add", [y, skip])])
            channels = width
    return _classifier(net, x, channels)


def mobilenet_v2(opset: int = 13, size: int = 224, dynamic: bool = False) -> onnx.ModelProto:
    """MobileNetV2 1.0, 1000 classes."""
    net = Net((1, 3, size, size), opset, 2, dynamic)
    low, high = net.weight(np.float32(0)), net.weight(np.float32(6))

    def relu6(x: str) -> str:
        return net.node("Clip", [x, low, high])

    x = relu6(net.conv("input", 3, 32, 3, 2))
    channels = 32
    for expand, width, repeat, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for stride in (first, *[1] * (repeat - 1)):
            hidden = channels * expand
            y = relu6(net.conv(x, channels, hidden, 1)) if expand > 1 else x
            y = relu6(net.conv(y, hidden, hidden, 3, stride, groups=hidden))
            y = net.conv(y, hidden, width, 1)
            x = net.node("Add", [y, x]) if stride == 1 and channels == width else y
            channels = width
    return _classifier(net, relu6(net.conv(x, channels, 1280, 1)), 1280)


def _classifier(net: Net, x: str, channels: int) -> onnx.ModelProto:
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    w = net.weight((net.random.standard_normal((1000, channels)) * channels**-0.5).astype("f"))
    b = net.weight(net.random.uniform(-0.1, 0.1, 1000).astype("f"))
    net.nodes.append(helper.make_node("Gemm", [x, w, b], ["output"], name="/fc", transB=1))
    return net.model({"output": [net.batch, 1000]})


def yolov5s(opset: int = 12, size: int = 320, dynamic: bool = False) -> onnx.ModelProto:
    """YOLOv5s (v6), 80 classes; the output is the raw head of each level, reshaped and put through a sigmoid."""
    net = Net((1, 3, size, size), opset, 5, dynamic)

    def conv(x: str, cin: int, cout: int, kernel: int = 1, stride: int = 1) -> str:
        y = net.conv(x, cin, cout, kernel, stride)
        return net.node("Mul", [y, net.node("Sigmoid", [y])])

    def c3(x: str, cin: int, cout: int, repeat: int, shortcut: bool = True) -> str:
        half = cout // 2
        y = conv(x, cin, half)
        for _ in range(repeat):
            z = conv(conv(y, half, half), half, half, 3)
            y = net.node("Add", [y, z]) if shortcut else z
        return conv(net.node("Concat", [y, conv(x, cin, half)], axis=1), cout, cout)

    scales = net.weight(np.array([1, 1, 2, 2], "f"))
    empty = net.weight(np.zeros(0, "f"))

    def up(x: str) -> str:
        return net.node(
            "Resize",
            [x, empty, scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    x = conv(conv("input", 3, 32, 6, 2), 32, 64, 3, 2)
    x = conv(c3(x, 64, 64, 1), 64, 128, 3, 2)
    p3 = c3(x, 128, 128, 2)
    p4 = c3(conv(p3, 128, 256, 3, 2), 256, 256, 3)
    x = c3(conv(p4, 256, 512, 3, 2), 512, 512, 1)
    pools = [conv(x, 512, 256)]
    for _ in range(3):
        pools.append(net.node("MaxPool", [pools[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    p5 = conv(conv(net.node("Concat", pools, axis=1), 1024, 512), 512, 256)
    n4 = conv(c3(net.node("Concat", [up(p5), p4], axis=1), 512, 256, 1, False), 256, 128)
    o3 = c3(net.node("Concat", [up(n4), p3], axis=1), 256, 128, 1, False)
    o4 = c3(net.node("Concat", [conv(o3, 128, 128, 3, 2), n4], axis=1), 256, 256, 1, False)
    o5 = c3(net.node("Concat", [conv(o4, 256, 256, 3, 2), p5], axis=1), 512, 512, 1, False)
    outputs: dict[str, list[int | str | None]] = {}
    for level, (x, width, stride) in enumerate(((o3, 128, 8), (o4, 256, 16), (o5, 512, 32))):
        side = size // stride
        y = net.node("Reshape", [net.conv(x, width, 255, 1, norm=False), net.ints(-1, 3, 85, side, side)])
        y = net.node("Transpose", [y], perm=[0, 1, 3, 4, 2])
        net.nodes.append(helper.make_node("Sigmoid", [y], [f"output{level}"], name=f"/head_{level}"))
        outputs[f"output{level}"] = [net.batch, 3, side, side, 85]
    return net.model(outputs)


def vit_tiny(opset: int = 17, size: int = 224, dynamic: bool = False) -> onnx.ModelProto:
    """ViT/DeiT-tiny, patch 16: 12 blocks of width 192 with 3 heads, LayerNormalization and Erf-GELU, 1000 classes."""
    net = Net((1, 3, size, size), opset, 16, dynamic)
    width, heads, tokens = 192, 3, (size // 16) ** 2 + 1
    w = net.weight((net.random.standard_normal((width, 3, 16, 16)) * 768**-0.5).astype("f"))
    b = net.weight(np.zeros(width, "f"))
    x = net.node("Conv", ["input", w, b], kernel_shape=[16, 16], strides=[16, 16])
    x = net.node("Transpose", [net.node("Reshape", [x, net.ints(0, width, -1)])], perm=[0, 2, 1])
    token = net.weight((net.random.standard_normal((1, 1, width)) * 0.5).astype("f"))
    if dynamic:
        shape = net.node(
            "Concat", [net.node("Slice", [net.node("Shape", [x]), net.ints(0), net.ints(1)]), net.ints(1, 1)], axis=0
        )
        token = net.node("Expand", [token, shape])
    x = net.node("Concat", [token, x], axis=1)
    x = net.node("Add", [x, net.weight((net.random.standard_normal((1, tokens, width)) * 0.2).astype("f"))])

    def norm(x: str) -> str:
        gamma, beta = net.random.uniform(0.7, 1.3, width), net.random.uniform(-0.2, 0.2, width)
        return net.node(
            "LayerNormalization", [x, net.weight(gamma.astype("f")), net.weight(beta.astype("f"))], epsilon=1e-6
        )

    half, one, root2 = (net.weight(np.float32(value)) for value in (0.5, 1.0, 2**0.5))
    for _ in range(12):
        y = norm(x)
        parts = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = net.node("Reshape", [net.linear(y, width, width), net.ints(0, tokens, heads, width // heads)])
            parts.append(net.node("Transpose", [part], perm=perm))
        query = net.node("Mul", [parts[0], net.weight(np.float32((width // heads) ** -0.5))])
        attention = net.node("Softmax", [net.node("MatMul", [query, parts[1]])], axis=-1)
        y = net.node("Transpose", [net.node("MatMul", [attention, parts[2]])], perm=[0, 2, 1, 3])
        y = net.linear(net.node("Reshape", [y, net.ints(0, tokens, width)]), width, width)
        x = net.node("Add", [x, y])
        y = net.linear(norm(x), width, width * 4)
        gelu = net.node("Add", [net.node("Erf", [net.node("Div", [y, root2])]), one])
        y = net.node("Mul", [net.node("Mul", [y, gelu]), half])
        x = net.node("Add", [x, net.linear(y, width * 4, width)])
    first = net.node("Gather", [norm(x), net.weight(np.int64(0))], axis=1)
    w = net.weight((net.random.standard_normal((1000, width)) * width**-0.5).astype("f"))
    net.nodes.append(
        helper.make_node("Gemm", [first, w, net.weight(np.zeros(1000, "f"))], ["output"], name="/fc", transB=1)
    )
    return net.model({"output": [net.batch, 1000]})


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "yolov5s_320": yolov5s,
    "vit_tiny": vit_tiny,
}


def cache_folder() -> Path:
    """``PTQBRIDGE_BENCHMARK_CACHE``, or a folder of the user's in the system's temporary folder."""
    chosen = os.environ.get("PTQBRIDGE_BENCHMARK_CACHE")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"ptqbridge-benchmarks-{os.getuid()}"


def model_path(name: str) -> Path:
    """The file of one benchmark model, generated on first use."""
    path = cache_folder() / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_bytes(MODELS[name]().SerializeToString())
        partial.replace(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; all when none is given")
    for wanted in parser.parse_args().names or MODELS:
        print(wanted, model_path(wanted))
