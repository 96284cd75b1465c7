"""ONNX Runtime on a CPU, on CUDA, and through its TensorRT provider."""

from engines.backends.ort.backend import OrtBackend
from engines.backends.ort.provider import OrtTensorrtBackend
from engines.backends.ort.sessions import open_graph

__all__ = ["OrtBackend", "OrtTensorrtBackend", "open_graph"]
