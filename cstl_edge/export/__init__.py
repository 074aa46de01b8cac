"""Export trained weights to a folder of ONNX graphs, and build TensorRT engines from it.

`export_model` writes the folder, `quantization` makes FP16 and INT8 variants, `checks` decides
whether they are accurate enough, `tensorrt` builds engines.
"""
