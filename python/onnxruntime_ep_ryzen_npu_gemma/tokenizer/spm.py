"""A SentencePiece BPE vocabulary as a `tokenizers` pipeline that gives the same ids.

SentencePiece joins, again and again, the neighbours whose joined piece has the best score.  `tokenizers` joins the
neighbours whose pair stands first in a list of merges.  So the list has every way to split every piece, best score
first, and for one piece the longest left part first: the order of transformers' converter, whose tokenizer.json for
Gemma3 has the same 514906 merges.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from onnxruntime_ep_ryzen_npu_gemma.sources import Gemma3TextConfig, SpmVocabulary

__all__ = ["build_tokenizer"]

_SPACE = "▁"
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # llama.cpp's token types; 6 is a byte

# Beyond bos, eos, pad and unk: texts of Gemma's protocol, never content.  The other control tokens are unused.
_PROTOCOL = frozenset({"<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"})


def build_tokenizer(vocabulary: SpmVocabulary, config: Gemma3TextConfig) -> Tokenizer:
    """Builds the tokenizer: byte fallback, no prefix space, <bos> in front if the vocabulary says so.

    Args:
        vocabulary: texts, scores and types by id.
        config: for the special ids.
    """
    types = vocabulary.types.tolist()
    # llama.cpp writes user-defined tokens with plain spaces; the model's alphabet has the visible one.
    texts = [
        text.replace(" ", _SPACE) if type_ == _USER_DEFINED else text
        for text, type_ in zip(vocabulary.tokens, types, strict=True)
    ]
    ids = {text: i for i, text in enumerate(texts)}
    unk = texts[vocabulary.unk_token_id]
    merges = _merges(ids, types, vocabulary.scores.tolist())
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    special = {config.bos_token_id, config.pad_token_id, vocabulary.unk_token_id, *config.eos_token_ids}
    special |= {ids[text] for text in _PROTOCOL if text in ids}
    tokenizer.add_tokens(
        [
            AddedToken(text, special=i in special, normalized=False)
            for i, (text, type_) in enumerate(zip(texts, types, strict=True))
            if type_ in (_CONTROL, _USER_DEFINED)
        ]
    )
    if vocabulary.add_bos:
        bos = texts[config.bos_token_id]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, config.bos_token_id)]
        )
    return tokenizer


def _merges(ids: dict[str, int], types: list[int], scores: list[float]) -> list[tuple[str, str]]:
    """Every split of every piece into two pieces, best score first."""
    ranked: list[tuple[float, int, int, int, str, str]] = []
    for (piece, i), type_ in zip(ids.items(), types, strict=True):
        if type_ not in (_NORMAL, _USER_DEFINED):
            continue
        score = scores[i] if type_ == _NORMAL else 0.0  # the best there is; llama.cpp's files say -1000
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                ranked.append((-score, -len(left), -len(right), i, left, right))
    ranked.sort()
    return [(left, right) for *_, left, right in ranked]
