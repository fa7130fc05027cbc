"""The numpy layers against transformers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.calibration.decoder_layer import DecoderLayer, rms_norm
from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
from tests.tiny_gemma3 import LAYERS, VOCAB_SIZE, WINDOW


def test_all_layers_follow_transformers(tiny_gguf: Path, tiny_hf_model: Gemma3ForCausalLM) -> None:
    source = open_source(tiny_gguf)
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, 4 * WINDOW)
    with torch.no_grad():
        truth = tiny_hf_model(torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states
    embedding = source.tensor("model.embed_tokens.weight")
    h = embedding[ids] * np.float32(math.sqrt(embedding.shape[1]))
    for number in range(LAYERS):
        np.testing.assert_allclose(h, truth[number][0].numpy(), rtol=1e-4, atol=2e-4, err_msg=f"layer {number}")
        layer = DecoderLayer(source, number)
        h = layer.forward(h)
    last = rms_norm(h, source.tensor("model.norm.weight"), source.config.rms_eps)
    np.testing.assert_allclose(last, truth[LAYERS][0].numpy(), rtol=1e-4, atol=2e-4)  # transformers' last is normed
