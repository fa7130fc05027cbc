"""What prefill's arithmetic costs the real 270M: `python -m tests.kernels.designs.real_270m_perplexity TEXT…`.

The first 512 tokens of each text through all launches in functional simulation (a minute and a half), and in ideal
arithmetic of the designs' formats, against the host device in float32. docs/npu.md has the table.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from kernels.sim import provide_aie

provide_aie()  # before the designs are imported

from graph_passes import q4nx  # noqa: E402
from kernels.prefill_layer.launches import plan_prompt  # noqa: E402
from tests.kernels.designs.gemma3_reference import prefill  # noqa: E402
from tests.kernels.designs.prefill_prompt import model_in_ddr, run_prompt  # noqa: E402
from tests.kernels.designs.real_270m import (  # noqa: E402
    SHAPE,
    array,
    embeddings,
    kl_divergence,
    open_session,
    read_model,
    tokenize,
)
from tests.kernels.designs.running import relative_error  # noqa: E402
from tests.models import cached_run  # noqa: E402

TOKENS = 512


def scores(logits: Any, host: Any, ids: list[int]) -> str:
    """Perplexity; KL divergence and equal top-1 against the host."""
    exact = [row.astype(np.float64) for row in logits]
    loss = [np.logaddexp.reduce(row) - row[following] for row, following in zip(exact, ids[1:], strict=False)]
    divergence = np.mean([kl_divergence(a, b) for a, b in zip(host, exact, strict=True)])
    top1 = np.mean(host.argmax(-1) == logits.argmax(-1))
    return f"perplexity {np.exp(np.mean(loss)):.2f}, KL {divergence:.1e}, top-1 {top1:.1%}"


def main(files: list[str]) -> None:
    """Prints a block of lines for each text."""
    model, session = read_model(), open_session("model_all_logits.onnx")
    head = q4nx.dequantize(array("model.embed_tokens.weight.q8"), SHAPE.vocab, SHAPE.hidden)
    ddr, prompt = model_in_ddr(model), plan_prompt(SHAPE, TOKENS)
    for file in files:
        ids = tokenize(Path(file).read_text(encoding="utf-8"))[:TOKENS]
        host, _ = cached_run.run(session, ids, cached_run.pasts(session, 0), 0)
        print(f"{file}\n  host          {scores(host, host, ids)}", flush=True)
        embedded = embeddings(ids)
        truth = prefill(model, embedded)[0]
        ideal, npu = prefill(model, embedded, ideal=True)[0], run_prompt(ddr, prompt, embedded)
        for name, hidden in (("ideal", ideal), ("simulated NPU", npu)):
            logits = hidden.astype(np.float32) @ head.T
            error = relative_error(hidden, truth)
            print(f"  {name:13} {scores(logits, host, ids)}, hidden states {error:.1%} off", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
