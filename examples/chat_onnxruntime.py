"""A chat in plain onnxruntime on RyzenNPUGemmaEP: `python chat_onnxruntime.py MODEL_FOLDER`.

Past and present are one buffer that holds the whole conversation, so a turn runs only what is new.
"""

import json
import sys

import jinja2
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

import onnxruntime_ep_ryzen_npu_gemma as ryzen

ROWS = 4096  # tokens that the cache holds
if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = sys.argv[1]
ryzen.register()
session = ort.InferenceSession(f"{folder}/model.onnx", providers=["RyzenNPUGemmaEP"])
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
with open(f"{folder}/chat_template.jinja", encoding="utf-8") as file:
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(file.read())
with open(f"{folder}/genai_config.json", encoding="utf-8") as file:
    stops = json.load(file)["model"]["eos_token_id"]

binding = session.io_binding()
caches = []  # a binding does not own its memory
for past in session.get_inputs():
    if past.name.startswith("past_key_values"):
        dtype = np.float16 if "float16" in past.type else np.float32
        caches.append(ort.OrtValue.ortvalue_from_numpy(np.zeros((1, past.shape[1], ROWS, past.shape[3]), dtype)))
        binding.bind_ortvalue_input(past.name, caches[-1])
        binding.bind_ortvalue_output(past.name.replace("past_key_values", "present"), caches[-1])


def run(ids: list[int], length: int) -> int:
    """Runs `ids` behind `length` tokens; gives the likeliest next one."""
    binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
    binding.bind_cpu_input("attention_mask", np.ones((1, length + len(ids)), np.int64))
    binding.bind_output("logits")
    session.run_with_iobinding(binding)
    return int(binding.get_outputs()[-1].numpy()[0, -1].argmax())


ids, length = tokenizer.encode("").ids, 0  # <bos>
for line in sys.stdin:
    turn = [{"role": "user", "content": line.strip()}]
    text = template.render(messages=turn, bos_token="", add_generation_prompt=True)
    ids += tokenizer.encode(text if length == 0 else "<end_of_turn>\n" + text, add_special_tokens=False).ids
    for _ in range(256):
        token, length = run(ids[length:], length), len(ids)
        if token in stops:
            break
        ids.append(token)
        print(tokenizer.decode([token]), end="", flush=True)
    print()
