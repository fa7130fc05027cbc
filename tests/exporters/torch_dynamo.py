"""torch.onnx.export(dynamo=True) of transformers' Gemma3ForCausalLM with its cache: HF_FOLDER OUTPUT --opset N."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.export import Dim
from transformers import AutoModelForCausalLM, DynamicCache


class WithFlatCache(torch.nn.Module):
    """The model with its cache as a flat list of tensors: key and value of layer 0, of layer 1, ..."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()  # no config: a cache that grows in every layer, the window is in the mask
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache
        )
        return (output.logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hf_folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--opset", type=int, required=True)
    arguments = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(arguments.hf_folder, dtype=torch.float32)
    config = model.config
    batch, new, past_len = 2, 3, 5  # an example; only the shapes that are not dynamic stay in the graph
    past = [
        torch.zeros(batch, config.num_key_value_heads, past_len, config.head_dim)
        for _ in range(2 * config.num_hidden_layers)
    ]
    ids = torch.zeros(batch, new, dtype=torch.int64)
    mask = torch.ones(batch, past_len + new, dtype=torch.int64)
    positions = torch.arange(past_len, past_len + new).expand(batch, new)
    names = [f"{layer}.{kind}" for layer in range(config.num_hidden_layers) for kind in ("key", "value")]
    free = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    program = torch.onnx.export(
        WithFlatCache(model).eval(),
        (ids, mask, positions, past),
        input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{n}" for n in names)],
        output_names=["logits", *(f"present.{n}" for n in names)],
        dynamic_shapes=(free, free, free, [{0: Dim.DYNAMIC, 2: Dim.DYNAMIC} for _ in past]),
        opset_version=arguments.opset,
        dynamo=True,
    )
    program.save(arguments.output, external_data=True)


if __name__ == "__main__":
    main()
