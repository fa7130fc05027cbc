"""A tiny Gemma3 with random weights, as transformers sees it and as a GGUF file of the same numbers.

8 layers in the 5:1 pattern, so that both kinds of layer come after both; a window of 16, so that it bites early; heads
wider than the hidden size allows, two query heads to a key/value head, and linear RoPE scaling as in 4B.
"""

from __future__ import annotations

import string
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from onnxruntime_ep_ryzen_npu_gemma.sources import SpmVocabulary, open_source
from onnxruntime_ep_ryzen_npu_gemma.tokenizer.spm import build_tokenizer

VOCAB_SIZE = 512
WINDOW = 16
LAYERS = 8
MAX_POSITIONS = 256

# Types of llama.cpp.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_WORDS = ("the", "is", "of", "in", "and", "to", "king", "sea", "then", "there", "here", "this")
# Parts that compete: in "there" th, he, er and re overlap, and the scores decide.
_PARTS = ("he", "in", "th", "er", "an", "re", "ing", "nd", "the", "her", "ng")


def make_hf_model() -> Gemma3ForCausalLM:
    """The model in float32, in evaluation mode; the same weights at every call."""
    config = Gemma3TextConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=WINDOW,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        eos_token_id=[1, 5],
        attn_implementation="eager",
    )
    model = Gemma3ForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Large enough that attention is far from uniform and that a norm without its 1 + w shows.
            std = 0.3 if name.endswith("norm.weight") else 1.0 if "embed" in name else 1.5 * weight.shape[-1] ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
    return model


def make_vocabulary() -> SpmVocabulary:
    """Gemma's kind of vocabulary in small: control tokens, bytes, space runs, characters, a few words by merges."""
    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    user_defined = ["\n", "\n\n", "  ", "   ", "<b>"]
    byte = [f"<0x{b:02X}>" for b in range(256)]
    characters = [*string.ascii_letters, *string.digits, *".,!?'<>", "▁", "é", "ü", "語"]
    words = {f"▁{word}"[:n]: None for word in _WORDS for n in range(2, len(word) + 2)}
    pieces = [*dict.fromkeys([*_PARTS, *words, *characters])]
    groups = [(control, CONTROL), (user_defined, USER_DEFINED), (byte, BYTE), (pieces, NORMAL)]
    tokens = [token for group, _ in groups for token in group]
    types = [type_ for group, type_ in groups for _ in group]
    unused = VOCAB_SIZE - len(tokens)
    tokens += [f"<unused{i}>" for i in range(unused)]
    types += [CONTROL] * unused
    first_piece = len(tokens) - unused - len(pieces)
    scores = [float(first_piece - i) if t == NORMAL else -1000.0 if t != BYTE else 0.0 for i, t in enumerate(types)]
    return SpmVocabulary(tokens, np.array(scores, np.float32), np.array(types, np.int32), 3, True, None)


def write_gguf(model: Gemma3ForCausalLM, path: Path, *, quantized: gguf.GGMLQuantizationType | None = None) -> None:
    """Writes the model as llama.cpp's converter does: norms as 1 + w, facts of all Gemma3 left out.

    Args:
        model: from `make_hf_model`.
        path: the file to write.
        quantized: the type of the matrices; None for F32.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
    vocabulary = make_vocabulary()
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores.tolist())
    writer.add_token_types(vocabulary.types.tolist())
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        if name.endswith("norm.weight"):
            writer.add_tensor(f"{names.get_name(name.removesuffix('.weight'))}.weight", values + np.float32(1))
            continue
        dtype = quantized if quantized is not None else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(values, dtype)
        writer.add_tensor(f"{names.get_name(name.removesuffix('.weight'))}.weight", data, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer_json(folder: Path) -> None:
    """Adds tokenizer.json of `make_vocabulary` to a folder with the model."""
    build_tokenizer(make_vocabulary(), open_source(folder).config).save(str(folder / "tokenizer.json"))
