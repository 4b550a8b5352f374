"""Backend of NVIDIA GPUs: TensorRT 8.6 to 11, through its Python API."""
