"""Rewrites an exported Gemma3 ONNX graph into the operators that the execution provider runs."""
