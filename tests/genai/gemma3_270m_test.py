"""The real Gemma3-270M in onnxruntime-genai on our provider: the tokens it gives everywhere, however it is driven."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og
import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from tests.genai import generating
from tests.genai.generating import greedy, make
from tests.python.tokenizer import hard_text

_ROOT = Path(__file__).parents[2]
_ROWS = 512 + 511  # of a sliding layer's cache: the window and a prefill chunk
_MIDDLE = (
    "Water boils at one hundred degrees Celsius at sea level. On a high mountain the air is thinner and the pressure "
    "is lower, so that water boils"
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """A short one, a middle one, and one past the window and past the ring of a sliding layer."""
    return ["The capital of France is", _MIDDLE, (_ROOT / "LICENSE").read_text(encoding="utf-8")[:6000]]


@pytest.fixture(scope="module")
def prompts(texts: list[str], tokenizer: Any) -> list[np.ndarray]:
    prompts = [tokenizer.encode(text) for text in texts]
    assert len(prompts[2]) > _ROWS
    return prompts


@pytest.fixture(scope="module")
def answers(on_ep: Any, prompts: list[np.ndarray]) -> list[list[int]]:
    return [greedy(make(on_ep, prompt), 20) for prompt in prompts]


def test_genais_tokenizer_gives_googles_ids(tokenizer: Any) -> None:
    """It reads our tokenizer.json with code of its own."""
    assert tokenizer.encode(hard_text.TEXT).tolist() == list(hard_text.IDS)
    text = tokenizer.decode(np.array(hard_text.IDS[1:], np.int32))
    assert text.replace("▁", " ") == hard_text.TEXT.replace("▁", " ")  # genai leaves runs of spaces as "▁▁"


def test_tokens_equal_our_own_generate(
    demo_folder: Path, texts: list[str], answers: list[list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    for text, answer in zip(texts, answers, strict=True):
        command = ["generate", str(demo_folder), "--prompt", text, "--greedy", "-n", str(len(answer)), "--json"]
        command += ["--accuracy", "exact"]
        assert cli.main(command) == 0
        assert json.loads(capsys.readouterr().out)["tokens"] == answer


def test_tokens_equal_those_of_the_cpu_provider(
    demo_folder: Path, prompts: list[np.ndarray], answers: list[list[int]]
) -> None:
    model = generating.open_on_cpu(demo_folder)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert greedy(make(model, prompt), 4) == answer[:4]


def test_options_of_the_provider_arrive(demo_folder: Path) -> None:
    strict = [{"RyzenNPUGemmaEP": {"strict": "1"}}]
    overlay = {"model": {"decoder": {"session_options": {"provider_options": strict}}}}
    generating.open_on_ep(demo_folder, overlay=overlay)  # every node is ours, or this fails
    config = og.Config(str(demo_folder))
    config.set_provider_option("RyzenNPUGemmaEP", "strict", "perhaps")
    with pytest.raises(RuntimeError, match=r"strict.*perhaps"):
        og.Model(config)


def test_fast_keeps_the_perplexity(on_ep: Any, demo_folder: Path, prompts: list[np.ndarray]) -> None:
    """The contract, on as many tokens as it takes to tell: of 1000 the mean's standard error is 0.0024."""
    fast = generating.open_on_ep(demo_folder, accuracy="fast")
    ids = prompts[2][:1050]
    exact_nll, fast_nll = (_mean_nll(model, ids, 50) for model in (on_ep, fast))
    assert abs(np.expm1(fast_nll - exact_nll)) <= 0.005  # measured 0.0030
    assert exact_nll != fast_nll  # the option has arrived


def _mean_nll(model: Any, ids: np.ndarray, first: int) -> float:
    """Of the tokens from `first` on, each run by itself."""
    generator = make(model, ids[:first])
    nll = []
    for token in ids[first:]:
        logits = generator.get_logits()[0, 0].astype(np.float64)
        nll.append(np.logaddexp.reduce(logits) - logits[token])
        generator.append_tokens(np.array([token], np.int32))
    return float(np.mean(nll))


@pytest.mark.parametrize("chunk", [0, 37, 256])
def test_prefill_in_any_chunks_gives_the_same_tokens(
    chunk: int, on_ep: Any, prompts: list[np.ndarray], answers: list[list[int]]
) -> None:
    assert greedy(make(on_ep, prompts[2], chunk_size=chunk), 20) == answers[2]


def test_appended_tokens_continue_the_text(on_ep: Any, tokenizer: Any, prompts: list[np.ndarray]) -> None:
    more = tokenizer.encode(" Some people say that")[1:]
    generator = make(on_ep, prompts[1])
    first = greedy(generator, 10)
    generator.get_logits()  # genai runs a token when the next one is asked for, and append_tokens does not ask
    generator.append_tokens(more)
    fresh = make(on_ep, [*prompts[1], *first, *more])
    assert greedy(generator, 16) == greedy(fresh, 16)


def test_tokens_appended_after_a_stop_token_continue_without_it(
    demo_folder: Path, tokenizer: Any, prompts: list[np.ndarray], answers: list[list[int]]
) -> None:
    stop = answers[0][10]
    kept = answers[0][: answers[0].index(stop)]
    model = generating.open_on_ep(demo_folder, overlay={"model": {"eos_token_id": [stop]}})
    generator = make(model, prompts[0])
    assert greedy(generator, 24) == [*kept, stop] and generator.is_done()
    more = tokenizer.encode(" Some people say that")[1:]
    generator.append_tokens(more)
    assert greedy(generator, 8) == greedy(make(model, [*prompts[0], *kept, *more]), 8)


@pytest.mark.parametrize("length", [0, 1, 20])
def test_rewound_equals_fresh(length: int, on_ep: Any, prompts: list[np.ndarray]) -> None:
    ids = [*prompts[1], *prompts[2][: _ROWS - len(prompts[1]) - 24]]
    other = np.random.default_rng(1).integers(1000, 200_000, 7).tolist()
    generator = make(on_ep, ids)
    greedy(generator, 24)
    generator.rewind_to(length)
    generator.append_tokens(np.array(other, np.int32))
    assert greedy(generator, 16) == greedy(make(on_ep, [*ids[:length], *other]), 16)


def test_rewinding_after_eviction_is_refused(on_ep: Any, prompts: list[np.ndarray]) -> None:
    generator = make(on_ep, prompts[2])
    with pytest.raises(RuntimeError, match=rf"Cannot rewind to 20.* only the last {_ROWS} .*cache_slack"):
        generator.rewind_to(20)


def test_more_slack_rewinds_further(demo_folder: Path, prompts: list[np.ndarray]) -> None:
    config = json.loads((demo_folder / "genai_config.json").read_text(encoding="utf-8"))
    window = config["model"]["decoder"]["sliding_window"] | {"cache_slack": 1500}
    model = generating.open_on_ep(demo_folder, overlay={"model": {"decoder": {"sliding_window": window}}})
    generator = make(model, prompts[2])
    generator.rewind_to(20)
    generator.append_tokens(prompts[1])
    assert greedy(generator, 16) == greedy(make(model, [*prompts[2][:20], *prompts[1]]), 16)


def test_two_generators_do_not_disturb_each_other(
    on_ep: Any, prompts: list[np.ndarray], answers: list[list[int]]
) -> None:
    generators = [make(on_ep, prompt) for prompt in prompts]
    found: list[list[int]] = [[] for _ in generators]
    for _ in range(20):
        for tokens, generator in zip(found, generators, strict=True):
            tokens += greedy(generator, 1)
    assert found == answers


def test_guidance_constrains_the_text(on_ep: Any, tokenizer: Any) -> None:
    params = og.GeneratorParams(on_ep)
    params.set_search_options(do_sample=False, max_length=64)
    params.set_guidance("regex", "[0-9]{4}-[0-9]{2}-[0-9]{2}")
    generator = og.Generator(on_ep, params)
    prompt = tokenizer.encode("The war ended on the date ")
    generator.append_tokens(prompt)
    tokens = greedy(generator, 40)
    assert generator.is_done()  # the expression is complete, and nothing may follow it
    date = tokenizer.decode(np.array(tokens, np.int32))
    assert [len(part) for part in date.split("-")] == [4, 2, 2] and date.replace("-", "").isdecimal()


def test_the_text_ends_where_the_cache_does(on_ep: Any, prompts: list[np.ndarray]) -> None:
    generator = make(on_ep, prompts[0], max_length=30)
    assert len(greedy(generator, 100)) == 30 - len(prompts[0])
    with pytest.raises(RuntimeError, match="exceeds max length"):
        generator.append_tokens(prompts[0])


def test_work_can_be_ended_from_outside(on_ep: Any, prompts: list[np.ndarray], answers: list[list[int]]) -> None:
    generator = make(on_ep, prompts[0])
    generator.set_runtime_option("terminate_session", "1")
    with pytest.raises(RuntimeError, match="Terminated state"):
        greedy(generator, 20)
    assert greedy(make(on_ep, prompts[0]), 20) == answers[0]


def test_a_sliding_layer_keeps_its_window_and_a_global_one_everything(on_ep: Any) -> None:
    generator = make(on_ep, [2], max_length=32768)
    rows = [generator.get_input(f"past_key_values.{layer}.key").shape[2] for layer in range(6)]
    assert rows == [_ROWS] * 5 + [32768]


@pytest.mark.parametrize(
    ("options", "ids", "words"),
    [
        ({"num_beams": 2}, [2, 818], "input_ids"),
        ({}, [2, 300_000], "token id 300000 at position 1 is outside of the vocabulary"),
        ({"max_length": 40_000}, [2], "cannot be greater than model context_length"),
    ],
)
def test_what_the_model_cannot_do_is_an_error(
    options: dict[str, int], ids: list[int], words: str, on_ep: Any, prompts: list[np.ndarray], answers: list[list[int]]
) -> None:
    with pytest.raises(RuntimeError, match=words):
        make(on_ep, ids, **options)
    assert greedy(make(on_ep, prompts[0]), 20) == answers[0]  # and the model is as before


def test_2000_tokens_do_not_grow_the_memory(on_ep: Any, prompts: list[np.ndarray]) -> None:
    """The caches are there from the start, so 1800 tokens, which turn the rings over, may add no more than noise."""
    generator = make(on_ep, prompts[1], max_length=2100, min_length=2100)
    greedy(generator, 200)
    before = _resident_bytes()
    assert len(greedy(generator, 1800)) == 1800
    assert _resident_bytes() - before < 4 << 20  # measured: 0.04 MB


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
