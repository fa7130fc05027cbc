"""A small valid Gemma3 GGUF file, byte by byte, and one way to damage it for each `Fault`."""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY, F64 = 4, 5, 6, 7, 8, 9, 12
TOKENS, NUMBERS, SCORES, TYPES = (ARRAY << 8 | item for item in (STRING, U32, F32, I32))
TYPE_F32, TYPE_Q4_0, TYPE_Q5_1 = 0, 2, 7
HUGE, NAN = 2**64 - 1, float("nan")

VOCAB, HIDDEN, HEADS, HEAD_DIM, FFN, WINDOW = 8, 32, 2, 32, 64, 4


class Fault(enum.Enum):
    """One damage each: what the error must say, and for damaged metadata the key, its type and its value."""

    def __new__(cls, *_: Any) -> Fault:
        fault = object.__new__(cls)
        fault._value_ = len(cls.__members__)  # equal texts must not make two faults one
        return fault

    def __init__(self, text: str, key: str | bytes | None = None, kind: int = 0, value: Any = None) -> None:
        self.text = text
        self.entry = (key, (kind, value))

    EMPTY = ("not a GGUF file",)
    ONLY_MAGIC = ("not a GGUF file",)
    BAD_MAGIC = ("no GGUF magic",)
    VERSION_0 = ("found 0;",)
    VERSION_1 = ("found 1;",)
    VERSION_4 = ("found 4;",)
    BIG_ENDIAN = ("found 50331648",)
    TENSOR_COUNT_MINUS_1 = ("absurd tensor count",)
    TENSOR_COUNT_PLUS_1 = ("bad tensor name",)
    KV_COUNT_MINUS_1 = ("absurd metadata count",)
    KV_COUNT_PLUS_1 = ("tensor name: found",)
    DIMS_0 = ("bad number of dimensions",)
    DIMS_5 = ("found 5; 1 to 4",)
    DIM_0 = ("bad tensor shape",)
    DIM_HUGE = ("a tensor lies outside of the file",)
    PRODUCT_OVERFLOW = ("a tensor lies outside of the file",)
    TENSOR_TYPE_99 = ("unknown tensor type",)
    TENSOR_TYPE_Q5_1 = ("unsupported tensor type",)
    ROW_NOT_IN_BLOCKS = ("multiple of 32 for Q4_0",)
    OFFSET_UNALIGNED = ("a tensor is not aligned",)
    OFFSET_OVERLAP = ("two tensors overlap",)
    OFFSET_PAST_END = ("a tensor lies outside of the file",)
    OFFSET_OVERFLOW = ("a tensor lies outside of the file",)
    TENSOR_TWICE = ("output_norm.weight' twice",)
    TENSOR_MISSING = ("a tensor is missing",)
    TENSOR_EXTRA = ("no place in Gemma3",)
    TENSOR_TRANSPOSED = ("shape does not match",)
    DATA_CUT = ("a tensor lies outside of the file",)
    VOCABULARY_SHORT = ("shape does not match",)
    KEY_TOO_LONG = "metadata key: found 18446744073709551615 bytes", (b"k", HUGE), U32, 0
    KEY_EMPTY = "found an empty one", "", U32, 0
    KEY_TWICE = "general.alignment' twice", "general.alignment", U32, 32
    KEY_NOT_UTF8 = "a string is not UTF-8", b"\xff\xfe", U32, 0
    TEXT_NOT_UTF8 = "a string is not UTF-8", "general.name", STRING, b"\xff\xfe"
    TEXT_TOO_LONG = "general.name: found 18446744073709551615 bytes", "general.name", STRING, (b"x", HUGE)
    TEXT_PAST_END = "the file is cut", "general.name", STRING, (b"x", 1 << 20)
    VALUE_TYPE_13 = "unknown metadata type", "general.name", 13, 0
    NESTED_ARRAY = "an array of arrays", "general.name", ARRAY << 8 | ARRAY, ([], 1)
    ARRAY_TOO_LONG = "absurd array length", "general.name", TOKENS, ([], HUGE)
    ARRAY_PAST_END = "the file is cut", "general.name", NUMBERS, ([], 1 << 20)
    ALIGNMENT_0 = "bad alignment", "general.alignment", U32, 0
    ALIGNMENT_24 = "bad alignment", "general.alignment", U32, 24
    ALIGNMENT_HUGE = "bad alignment", "general.alignment", U32, 1 << 31
    ALIGNMENT_TEXT = "bad alignment", "general.alignment", STRING, "32"
    ARCHITECTURE_OTHER = "not a Gemma3 model", "general.architecture", STRING, "llama"
    ARCHITECTURE_MISSING = "general.architecture: found nothing", "general.architecture"
    SPLIT = "a part of a split GGUF file", "split.count", U32, 3
    LAYERS_0 = "absurd layer count", "gemma3.block_count", U32, 0
    LAYERS_HUGE = "absurd layer count", "gemma3.block_count", U32, 2**32 - 1
    LAYERS_TEXT = "block_count: found a str", "gemma3.block_count", STRING, "1"
    HIDDEN_0 = "absurd head count", "gemma3.embedding_length", U32, 0
    HEADS_0 = "absurd head count", "gemma3.attention.head_count", U32, 0
    KV_HEADS_3 = "a divisor of num_heads", "gemma3.attention.head_count_kv", U32, 3
    HEAD_DIM_OTHER = "must equal key_length", "gemma3.attention.value_length", U32, HEAD_DIM // 2
    WINDOW_0 = "sliding_window: found 0", "gemma3.attention.sliding_window", U32, 0
    WINDOW_MISSING = "sliding_window: found nothing", "gemma3.attention.sliding_window"
    CONTEXT_HUGE = "max_positions", "gemma3.context_length", U32, 2**32 - 1
    ROPE_NAN = "rope_theta_global: found nan", "gemma3.rope.freq_base", F32, NAN
    ROPE_YARN = "unsupported RoPE scaling", "gemma3.rope.scaling.type", STRING, "yarn"
    ROPE_NO_FACTOR = "scaling.factor: found nothing", "gemma3.rope.scaling.type", STRING, "linear"
    EPS_NEGATIVE = "rms_eps", "gemma3.attention.layer_norm_rms_epsilon", F32, -1e-6
    SOFTCAP = "caps no logits", "gemma3.final_logit_softcapping", F32, 30.0
    BOS_OUT_OF_RANGE = "bos_token_id: found 8", "tokenizer.ggml.bos_token_id", U32, VOCAB
    EOS_OUT_OF_RANGE = "eos_token_ids", "tokenizer.ggml.eos_token_id", U32, VOCAB
    UNK_OUT_OF_RANGE = "unknown_token_id: found 8", "tokenizer.ggml.unknown_token_id", U32, VOCAB
    VOCABULARY_BPE = "not a SentencePiece vocabulary", "tokenizer.ggml.model", STRING, "gpt2"
    VOCABULARY_PREFIXED = "not Gemma's tokenizer", "tokenizer.ggml.add_space_prefix", BOOL, True
    VOCABULARY_TWICE = "one text for two ids", "tokenizer.ggml.tokens", TOKENS, ["t"] * VOCAB
    VOCABULARY_NUMBERS = "tokens: found a ndarray", "tokenizer.ggml.tokens", NUMBERS, [7] * VOCAB
    SCORES_SHORT = "7 scores", "tokenizer.ggml.scores", SCORES, [0.0] * (VOCAB - 1)
    SCORES_NAN = "a score that is not finite", "tokenizer.ggml.scores", SCORES, [NAN] * VOCAB
    TYPES_FLOAT = "float32 types", "tokenizer.ggml.token_type", SCORES, [1.0] * VOCAB


def build(fault: Fault | None = None) -> bytes:
    """The file's bytes, whole or with one fault."""
    entries = list(_METADATA.items())
    if fault is not None and fault.entry[0] is not None:
        key, (kind, _) = fault.entry
        entries = [entry for entry in entries if entry[0] != key or fault is Fault.KEY_TWICE]
        entries += [fault.entry] if kind or fault is Fault.KEY_TWICE else []
    if fault is Fault.VOCABULARY_SHORT:
        entries = [(key, (kind, value[:-1] if kind > 255 else value)) for key, (kind, value) in entries]
    tensors, data = _tensors()
    header: dict[str, Any] = {"magic": b"GGUF", "version": 3, "tensors": 0, "entries": 0}
    if fault is not None:
        _damage(fault, header, tensors, len(data) - 32)
    counts = [(header["tensors"] + len(tensors)) % 2**64, (header["entries"] + len(entries)) % 2**64]
    order = ">" if fault is Fault.BIG_ENDIAN else "<"
    out: bytes = header["magic"] + struct.pack(f"{order}IQQ", header["version"], *counts)
    for key, (kind, value) in entries:
        out += _string(key) + struct.pack("<I", kind >> 8 or kind) + _value(kind, value)
    for t in tensors:
        out += _string(t["name"]) + struct.pack("<I", t.get("n_dims", len(t["dims"])))
        out += struct.pack(f"<{len(t['dims'])}Q", *t["dims"]) + struct.pack("<IQ", t["type"], t["offset"])
    out += bytes(-len(out) % 32) + data
    return {Fault.EMPTY: b"", Fault.ONLY_MAGIC: out[:4], Fault.DATA_CUT: out[:-36]}.get(fault or Fault.BAD_MAGIC, out)


_METADATA: dict[str | bytes, tuple[int, Any]] = {
    "general.architecture": (STRING, "gemma3"),
    "general.name": (STRING, "tiny"),
    "general.alignment": (U32, 32),
    "gemma3.context_length": (U32, 64),
    "gemma3.embedding_length": (U32, HIDDEN),
    "gemma3.block_count": (U32, 1),
    "gemma3.feed_forward_length": (U32, FFN),
    "gemma3.attention.head_count": (U32, HEADS),
    "gemma3.attention.head_count_kv": (U32, 1),
    "gemma3.attention.key_length": (U32, HEAD_DIM),
    "gemma3.attention.value_length": (U32, HEAD_DIM),
    "gemma3.attention.layer_norm_rms_epsilon": (F32, 1e-6),
    "gemma3.attention.sliding_window": (U32, WINDOW),
    "gemma3.rope.freq_base": (F32, 1e6),
    "tokenizer.ggml.model": (STRING, "llama"),
    "tokenizer.ggml.tokens": (TOKENS, [f"t{i}" for i in range(VOCAB)]),
    "tokenizer.ggml.scores": (SCORES, [0.0] * VOCAB),
    "tokenizer.ggml.token_type": (TYPES, [1] * VOCAB),
    "tokenizer.ggml.bos_token_id": (U32, 2),
    "tokenizer.ggml.eos_token_id": (U32, 1),
    "tokenizer.ggml.unknown_token_id": (U32, 3),
    "tokenizer.ggml.padding_token_id": (U32, 0),
}

_SHAPES = {  # the fastest dimension first
    "token_embd": [HIDDEN, VOCAB],
    "blk.0.attn_norm": [HIDDEN],
    "blk.0.attn_q": [HIDDEN, HEADS * HEAD_DIM],
    "blk.0.attn_k": [HIDDEN, HEAD_DIM],
    "blk.0.attn_v": [HIDDEN, HEAD_DIM],
    "blk.0.attn_q_norm": [HEAD_DIM],
    "blk.0.attn_k_norm": [HEAD_DIM],
    "blk.0.attn_output": [HEADS * HEAD_DIM, HIDDEN],
    "blk.0.post_attention_norm": [HIDDEN],
    "blk.0.ffn_norm": [HIDDEN],
    "blk.0.ffn_gate": [HIDDEN, FFN],
    "blk.0.ffn_up": [HIDDEN, FFN],
    "blk.0.ffn_down": [FFN, HIDDEN],
    "blk.0.post_ffw_norm": [HIDDEN],
    "output_norm": [HIDDEN],
}


def _tensors() -> tuple[list[dict[str, Any]], bytes]:
    """Directory and data; 32 bytes at the end belong to no tensor."""
    rng, tensors, data = np.random.default_rng(1), [], b""
    for name, dims in _SHAPES.items():
        tensors.append({"name": f"{name}.weight", "dims": list(dims), "type": TYPE_F32, "offset": len(data)})
        data += rng.standard_normal(int(np.prod(dims)), np.float32).tobytes()
        data += bytes(-len(data) % 32)
    return tensors, data + bytes(32)


def _string(text: str | bytes | tuple[bytes, int]) -> bytes:
    """A length and a text; a tuple states another length."""
    raw, length = text if isinstance(text, tuple) else (text.encode() if isinstance(text, str) else text, None)
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def _value(kind: int, value: Any) -> bytes:
    if kind > 255:
        items, count = value if isinstance(value, tuple) else (value, len(value))
        return struct.pack("<IQ", kind & 0xFF, count) + b"".join(_value(kind & 0xFF, item) for item in items)
    if kind == STRING:
        return _string(value)
    return struct.pack({I32: "<i", F32: "<f", F64: "<d", BOOL: "?"}.get(kind, "<I"), value)


def _damage(fault: Fault, header: dict[str, Any], tensors: list[dict[str, Any]], spare: int) -> None:
    """Damages header fields and the tensor directory; `spare` is the offset of the 32 bytes without a tensor."""
    norm, up = tensors[-1], next(t for t in tensors if "ffn_up" in t["name"])
    match fault:
        case Fault.BAD_MAGIC:
            header["magic"] = b"GGML"
        case Fault.VERSION_0 | Fault.VERSION_1 | Fault.VERSION_4:
            header["version"] = int(fault.name[-1])
        case Fault.TENSOR_COUNT_MINUS_1:
            header["tensors"] = -1 - len(tensors)
        case Fault.TENSOR_COUNT_PLUS_1:
            header["tensors"] = 1
        case Fault.KV_COUNT_MINUS_1:
            header["entries"] = -1 - len(_METADATA)
        case Fault.KV_COUNT_PLUS_1:
            header["entries"] = 1
        case Fault.DIMS_0:
            norm["n_dims"] = 0
        case Fault.DIMS_5:
            norm["dims"] = [1, 1, 1, 1, HIDDEN]
        case Fault.DIM_0:
            norm["dims"] = [0]
        case Fault.DIM_HUGE:
            norm["dims"] = [1 << 62]  # 2^64 bytes: 0 in 64-bit arithmetic
        case Fault.PRODUCT_OVERFLOW:
            norm["dims"] = [1 << 32, 1 << 32]  # 2^64 elements
        case Fault.TENSOR_TYPE_99:
            norm["type"] = 99
        case Fault.TENSOR_TYPE_Q5_1:
            up["type"] = TYPE_Q5_1
        case Fault.ROW_NOT_IN_BLOCKS:
            norm |= {"type": TYPE_Q4_0, "dims": [HIDDEN - 1]}
        case Fault.OFFSET_UNALIGNED:
            norm["offset"] -= 16
        case Fault.OFFSET_OVERLAP:
            norm["offset"] -= 32
        case Fault.OFFSET_PAST_END:
            norm["offset"] += 64
        case Fault.OFFSET_OVERFLOW:
            norm["offset"] = 2**64 - 32
        case Fault.TENSOR_TWICE:
            tensors.append(dict(norm))
        case Fault.TENSOR_MISSING:
            tensors.pop()
        case Fault.TENSOR_EXTRA:
            tensors.append({"name": "blk.0.attn_q.bias", "dims": [8], "type": TYPE_F32, "offset": spare})
        case Fault.TENSOR_TRANSPOSED:
            up["dims"].reverse()
