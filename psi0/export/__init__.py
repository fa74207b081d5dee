"""ONNX graphs of a policy and the runtimes that play them."""
