"""RyzenNPUGemmaEP: Gemma3 in 4-bit on the AMD Ryzen AI NPU, and on the CPU without one, for stock onnxruntime.

    import onnxruntime as ort
    import onnxruntime_ep_ryzen_npu_gemma as ep

    ep.register()
    session = ort.InferenceSession("model.onnx", providers=["RyzenNPUGemmaEP"])

Importing this package imports neither onnxruntime nor the tools behind the command line.
"""

from .registration import get_ep_name, get_ep_names, get_library_path, register, register_genai, session_options

__all__ = ["get_ep_name", "get_ep_names", "get_library_path", "register", "register_genai", "session_options"]
