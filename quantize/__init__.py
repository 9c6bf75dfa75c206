"""INT8 quantization of ONNX models, proven on labelled data or refused, and published as an immutable version.

Needs the extra `quantize` (onnx, onnxruntime, openvino). Of the gateway it uses `gateway.registry` and nouns only; the
serving process never imports this package.
"""
