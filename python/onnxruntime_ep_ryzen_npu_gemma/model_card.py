"""README.md of a converted folder: what it is, and what a program must do to open it.

A folder travels without this package. Whoever opens it in onnxruntime-genai without the execution provider reads
"Unknown provider name 'RyzenNPUGemmaEP'" and nothing else; this file answers that message.
"""

from __future__ import annotations

from .registration import EP_NAME

__all__ = ["model_card"]

_TEXT = f"""# Gemma3 for {EP_NAME}

Written by `ryzen-npu-gemma convert`: {{layers}} layers, {{hidden}} wide, context {{context}}. The execution provider
runs it on the AMD Ryzen AI NPU, or on the CPU where there is none.

    pip install onnxruntime onnxruntime-genai onnxruntime-ep-ryzen-npu-gemma

In onnxruntime-genai, register the provider, then open the folder:

    import onnxruntime_genai as og
    import onnxruntime_ep_ryzen_npu_gemma as ryzen

    og.register_execution_provider_library(ryzen.get_ep_name(), ryzen.get_library_path())
    model = og.Model("this-folder")

In onnxruntime:

    ryzen.register()
    session = onnxruntime.InferenceSession("this-folder/model.onnx", providers=["{EP_NAME}"])

In a terminal: `ryzen-npu-gemma generate this-folder --prompt "…"`, `ryzen-npu-gemma chat this-folder`.

## When it does not open

`Unknown provider name '{EP_NAME}'` (onnxruntime-genai): the provider is not registered. Call
`og.register_execution_provider_library` first, as above.

`Unknown Provider Type: {EP_NAME}` (onnxruntime, which then goes on with its CPU provider, slowly): the provider is not
registered. Call `ryzen.register()` first.

`config = og.Config("this-folder"); config.clear_providers()` opens it on onnxruntime's CPU provider: the same numbers,
slowly.
`ryzen-npu-gemma explain this-folder` says what runs where.
"""


def model_card(layers: int, hidden: int, context: int) -> str:
    """The file's text.

    Args:
        layers: of the decoder.
        hidden: size of its activations.
        context: positions that the model was trained for.
    """
    return _TEXT.format(layers=layers, hidden=hidden, context=context)
