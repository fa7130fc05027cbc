"""A chat through onnxruntime-genai on RyzenNPUGemmaEP: `python chat_genai.py MODEL_FOLDER`.

The folder is one that `ryzen-npu-gemma convert` wrote; its genai_config.json names the execution provider.
"""

import json
import sys

import onnxruntime_genai as og

import onnxruntime_ep_ryzen_npu_gemma as ryzen

if len(sys.argv) != 2:
    sys.exit(__doc__)
og.register_execution_provider_library(ryzen.get_ep_name(), ryzen.get_library_path())

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=4096, do_sample=False)
generator = og.Generator(model, params)  # holds the KV cache: a turn runs only what is new

first = True
for line in sys.stdin:
    turn = json.dumps([{"role": "user", "content": line.strip()}])
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True)
    if not first:  # what ends the answer before; the conversation has its <bos> already
        text = "<end_of_turn>\n" + text.removeprefix("<bos>")
        if not generator.is_done():  # cut off: its last token has been chosen but not run
            generator.get_logits()
    first = False
    generator.append_tokens(tokenizer.encode(text))
    stream = tokenizer.create_stream()
    for _ in range(256):
        if generator.is_done():
            break
        generator.generate_next_token()
        piece = stream.decode(generator.get_next_tokens()[0])
        print(piece.replace("▁", " "), end="", flush=True)  # genai leaves runs of spaces as they are in the vocabulary
    print()
