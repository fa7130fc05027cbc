"""A prompt through the prefill designs in the array simulator, launch by launch; the host does nothing in between."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from kernels.prefill_layer.launches import Launch, Plan, Prompt, program_of, prompt_launches
from kernels.prefill_layer.packing import pack_model, rotations
from kernels.sim import lower, run
from tests.kernels.designs.decode_token import words
from tests.kernels.designs.gemma3_reference import Model
from tests.kernels.designs.running import Compiled

KERNELS = Compiled()


@cache
def lowered(plan: Plan) -> Any:
    """The layers of a model share their programs."""
    return lower(program_of(plan))


def extents(launches: Iterable[Launch]) -> dict[str, int]:
    """Bytes of each buffer, as far as operands reach."""
    sizes: dict[str, int] = {}
    for launch in launches:
        for operand, argument in zip(launch.operands, lowered(launch.plan).arguments, strict=True):
            end = (operand.offset + int(np.prod(argument.shape))) * argument.dtype.itemsize
            sizes[operand.buffer] = max(end, sizes.get(operand.buffer, 0))
    return sizes


class Ddr(dict[str, Any]):
    """Buffers of bytes. What nobody wrote is NaN, but for what FlowQKV must find finite behind the prompt."""

    def allocate(self, launches: Iterable[Launch]) -> None:
        """What launches need beyond what is there."""
        for name, size in extents(launches).items():
            if name not in self:
                self[name] = np.full(size, 0 if name in ("q", "keys", "values") else 0xFF, np.uint8)

    def write(self, buffers: dict[str, Any]) -> None:
        """From the host."""
        for name, data in buffers.items():
            self[name] = np.ascontiguousarray(data).view(np.uint8).ravel()

    def launch(self, launch: Launch) -> None:
        """Runs a launch on views of its buffers."""
        program = lowered(launch.plan)
        views = []
        for operand, argument in zip(launch.operands, program.arguments, strict=True):
            size = argument.dtype.itemsize
            first, count = operand.offset * size, int(np.prod(argument.shape)) * size
            views.append(self[operand.buffer][first : first + count])
        run(program, *views, kernels=KERNELS)


def model_in_ddr(model: Model) -> Ddr:
    """The weights."""
    ddr = Ddr()
    norms = [{name: words(w) for name, w in layer.items()} for layer in model.norms]
    ddr.write(pack_model(model.units, norms, words(model.final_norm)))
    return ddr


def run_prompt(ddr: Ddr, prompt: Prompt, embeddings: Any, *following: Launch) -> Any:
    """Embeddings, fp32 `[tokens, hidden]`, to the hidden states after the final norm, float64; then what follows."""
    h = np.zeros((prompt.rows, prompt.shape.hidden), np.float32)
    h[: prompt.tokens] = embeddings
    ddr.write({"h": h, **rotations(prompt.shape, prompt.start, prompt.rows)})
    launches = [*prompt_launches(prompt), *following]
    ddr.allocate(launches)
    for launch in launches:
        ddr.launch(launch)
    x = ddr["x"].view(bfloat16).astype(np.float64)
    return x[: prompt.tokens * prompt.shape.hidden].reshape(prompt.tokens, -1)
