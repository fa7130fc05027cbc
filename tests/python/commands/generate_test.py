"""`generate` on the converted tiny model: what it prints, when it stops, what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli, registration

pytestmark = pytest.mark.usefixtures("ep_library")

PROMPT = " the king of the sea"  # one token for each word
CONTEXT = 256  # the tiny model's
# The tiny model is nearly sure of repeating the last token; so hot, it writes a varied text.
BOLD = ("--temperature", "50", "--top-k", "0", "--top-p", "1", "--min-p", "0")


@pytest.fixture
def generate(tiny_model_folder, capsys):
    def run(*arguments: str, prompt: str = PROMPT, folder=tiny_model_folder) -> tuple[int, str, str]:
        code = cli.main(["generate", str(folder), "--prompt", prompt, *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def generate_json(generate):
    def run(*arguments: str, **kwargs) -> dict:
        code, out, err = generate("--json", *arguments, **kwargs)
        assert err == ""
        result = json.loads(out)
        assert code == (1 if "error" in result else 0)
        return result

    return run


def test_text_goes_to_stdout_and_what_happened_to_stderr(generate, generate_json):
    arguments = (*BOLD, "-n", "12", "--seed", "3", "--device", "host")
    code, out, err = generate(*arguments)
    result = generate_json(*arguments)
    assert code == 0
    assert out == result["text"] + "\n"
    assert [line.split()[0] for line in err.splitlines()] == ["device", "prompt", "decode"]
    assert "RyzenNPUGemmaEP took" in err
    assert "tokens/s" in err


def test_json_has_tokens_timings_and_placement(generate_json):
    result = generate_json("-n", "5", "--greedy")
    assert len(result["tokens"]) == 5
    assert result["finish"] == "length"
    timings = result["timings"]
    assert timings["prompt_tokens"] == 1 + len(PROMPT.split())
    assert timings["decode_tokens"] == 4
    assert timings["decode_tokens_per_second"] == pytest.approx(4 / timings["decode_seconds"])
    assert timings["prefill_tokens_per_second"] == pytest.approx(timings["prompt_tokens"] / timings["prefill_seconds"])
    assert timings["load_seconds"] > 0
    assert result["placement"]["device"] in ("host", "npu")
    assert result["placement"]["share_of_multiply_adds"] >= 0.99
    assert 0 < result["placement"]["nodes_taken"] <= result["placement"]["nodes"]


def test_greedy_repeats_itself_and_a_seed_repeats_a_sample(generate_json):
    assert generate_json("--greedy", "-n", "8")["tokens"] == generate_json("--temperature", "0", "-n", "8")["tokens"]
    first, again, other = (generate_json(*BOLD, "-n", "8", "--seed", seed)["tokens"] for seed in "112")
    assert first == again != other


def test_a_model_that_ends_its_text_stops(generate_json, tiny_model_folder, tmp_path):
    tokens = generate_json(*BOLD, "-n", "16", "--seed", "3")["tokens"]
    stop = next(token for token in tokens if token != tokens[0])
    folder = shutil.copytree(tiny_model_folder, tmp_path / "stops")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = [stop]
    (folder / "genai_config.json").write_text(json.dumps(config))
    result = generate_json(*BOLD, "-n", "16", "--seed", "3", folder=folder)
    assert (result["tokens"], result["finish"]) == (tokens[: tokens.index(stop)], "stop")


def test_generation_ends_where_the_context_does(generate_json):
    result = generate_json("--greedy", "-n", "1000000000", "--context", "10")
    prompt = result["timings"]["prompt_tokens"]
    assert (prompt + len(result["tokens"]) - 1, result["finish"]) == (10, "context")  # the last token is not run


def test_one_token_has_no_speed_of_decoding(generate_json, generate):
    assert generate_json("--greedy", "-n", "1")["timings"]["decode_tokens_per_second"] is None
    assert "decode   0 tokens, 0.00 s (-n reached)" in generate("--greedy", "-n", "1")[2]


def test_an_empty_prompt_starts_from_bos(generate_json):
    assert generate_json("--greedy", "-n", "2", prompt="")["timings"]["prompt_tokens"] == 1


def test_a_typed_control_token_is_text(generate_json):
    assert generate_json("--greedy", "-n", "1", prompt="<eos>")["timings"]["prompt_tokens"] == 1 + len("<eos>")


def test_a_prompt_past_the_window_and_of_several_chunks_runs(generate_json):
    words = np.random.default_rng(0).choice([" the", " king", " of", " sea"], CONTEXT - 10)
    result = generate_json("--greedy", "-n", "9", prompt="".join(words))
    assert result["timings"]["prompt_tokens"] == 1 + words.size
    assert len(result["tokens"]) == 9


@pytest.mark.parametrize(
    ("arguments", "prompt", "what", "found"),
    [
        ((), " a" * CONTEXT, "the prompt is too long", f"{CONTEXT + 1} tokens, <bos> included"),
        (("--context", "5"), PROMPT, "the prompt is too long", "6 tokens, <bos> included"),
        (("--context", "0"), "a", "the model cannot have this context", "0"),
        (("--context", str(CONTEXT + 1)), "a", "the model cannot have this context", str(CONTEXT + 1)),
        (("-n", "0"), "a", "there is nothing to generate", "0"),
        (("-n", "-3"), "a", "there is nothing to generate", "-3"),
        (("--temperature", "nan"), "a", "this sampling value is out of range", "nan"),
        (("--top-p", "-1"), "a", "this sampling value is out of range", "-1.0"),
        (("--threads", "0"), "a", "no thread could work", "0"),
        (("--save-session", "none/x.kv"), "a", "the session cannot be saved there", "no folder none"),
        ((), "a\udcff", "this text is not valid Unicode", r"'\udcff'"),
    ],
)
def test_bad_values_are_refused(generate_json, arguments, prompt, what, found):
    error = generate_json(*arguments, prompt=prompt)["error"]
    assert (error["what"], error["found"]) == (what, found)


def test_a_device_that_is_not_there_is_one_line(generate):
    code, out, err = generate("--device", "npu")
    if code == 0:
        pytest.skip("this machine has an NPU")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no NPU" in err


def test_a_missing_library_is_one_line(generate, monkeypatch):
    monkeypatch.setattr(registration, "LIBRARY_NAME", "libabsent.so")
    code, out, err = generate()
    assert (code, out) == (1, "")
    assert err.startswith(
        "ryzen-npu-gemma: the execution provider library is missing: libabsent.so: found no such file"
    )
    assert err.count("\n") == 1


def test_truncated_weights_are_one_line(generate, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "truncated")
    (folder / "model.onnx.data").write_bytes(b"")
    code, out, err = generate(folder=folder)
    assert (code, out) == (1, "")
    assert "onnxruntime could not make a session: " in err
    assert "model.onnx: found " in err
    assert err.count("\n") == 1
