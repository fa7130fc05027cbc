"""The decoder against a toy model whose logits tell exactly which tokens, at which positions, its caches held.

The toy has two layers whose key row of token t at position p is (1 + p/64) in column t. Its logits are the sum of the
rows that the last token sees: layer 0 the last WINDOW positions, layer 1, times 64, all positions.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

VOCAB, WINDOW = 11, 4
WINDOWS = (WINDOW, 0)
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]


def expected(ids: list[int]) -> np.ndarray:
    rows = np.zeros((len(ids), VOCAB))
    rows[np.arange(len(ids)), ids] = 1 + np.arange(len(ids)) / 64
    return rows[-WINDOW:].sum(0) + 64 * rows.sum(0)


def toy_session(shared: bool, kv: int = TensorProto.FLOAT16, all_logits: bool = False) -> ort.InferenceSession:
    constants = {
        "identity": np.eye(VOCAB, dtype=np.float32), "zero": np.int64(0), "one": np.int64(1), "axis_1": np.array([1]),
        "axes_03": np.array([0, 3]), "axes_12": np.array([1, 2]), "a_64th": np.float32(1 / 64), "one_f": np.float32(1),
        "layer_scale": np.array([1, 64], np.float32), "logits_shape": np.array([1, 1, VOCAB]), "minus": np.int64(-1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Size", ["attention_mask"], ["L"]),
        helper.make_node("Size", ["input_ids"], ["S"]),
        helper.make_node("Sub", ["L", "S"], ["past_len"]),
        helper.make_node("Range", ["past_len", "L", "one"], ["positions"]),
        helper.make_node("Cast", ["positions"], ["positions_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["positions_f", "a_64th"], ["weights_0"]),
        helper.make_node("Add", ["weights_0", "one_f"], ["weights_1"]),
        helper.make_node("Unsqueeze", ["weights_1", "axis_1"], ["weights"]),
        helper.make_node("Gather", ["identity", "input_ids"], ["one_hot"]),
        helper.make_node("Mul", ["one_hot", "weights"], ["rows_3d"]),
        helper.make_node("Unsqueeze", ["rows_3d", "axis_1"], ["rows_f"]),
        helper.make_node("Cast", ["rows_f"], ["rows"], to=kv),
    ]
    for layer, window in enumerate(WINDOWS):
        past, present, n = f"past_key_values.{layer}.key", f"present.{layer}.key", f"layer{layer}."
        constants[n + "window"] = np.int64(window or 2**40)
        if shared:  # row p mod P; the last min(S, P) rows; afterwards row r holds p = L-1 - (L-1 - r) mod P
            nodes += [
                helper.make_node("Shape", [past], [n + "P1"], start=2, end=3),
                helper.make_node("Squeeze", [n + "P1"], [n + "P"]),
                helper.make_node("Min", ["S", n + "P"], [n + "kept"]),
                helper.make_node("Sub", ["S", n + "kept"], [n + "first"]),
                helper.make_node("Range", [n + "first", "S", "one"], [n + "chosen"]),
                helper.make_node("Gather", ["rows", n + "chosen"], [n + "new"], axis=2),
                helper.make_node("Gather", ["positions", n + "chosen"], [n + "p"]),
                helper.make_node("Mod", [n + "p", n + "P"], [n + "slots_1d"]),
                helper.make_node("Unsqueeze", [n + "slots_1d", "axis_1"], [n + "slots_2d"]),
                helper.make_node("Shape", [n + "new"], [n + "new_shape"]),
                helper.make_node("Expand", [n + "slots_2d", n + "new_shape"], [n + "slots"]),
                helper.make_node("ScatterElements", [past, n + "slots", n + "new"], [present], axis=2),
                helper.make_node("Range", ["zero", n + "P", "one"], [n + "r"]),
                helper.make_node("Sub", ["L", "one"], [n + "last"]),
                helper.make_node("Sub", [n + "last", n + "r"], [n + "back"]),
                helper.make_node("Mod", [n + "back", n + "P"], [n + "age"]),
            ]
        else:
            nodes += [
                helper.make_node("Concat", [past, "rows"], [present], axis=2),
                helper.make_node("Sub", ["L", "one"], [n + "last"]),
                helper.make_node("Range", [n + "last", "minus", "minus"], [n + "age"]),
            ]
        nodes += [
            helper.make_node("Less", [n + "age", n + "window"], [n + "in_window"]),
            helper.make_node("Less", [n + "age", "L"], [n + "written"]),
            helper.make_node("And", [n + "in_window", n + "written"], [n + "seen_1d"]),
            helper.make_node("Unsqueeze", [n + "seen_1d", "axis_1"], [n + "seen"]),
            helper.make_node("Cast", [present], [n + "present_f"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [n + "seen"], [n + "seen_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [n + "present_f", n + "seen_f"], [n + "visible"]),
            helper.make_node("ReduceSum", [n + "visible", "axes_12"], [n + "sum"], keepdims=0),
        ]
    nodes += [
        helper.make_node("Concat", ["layer0.sum", "layer1.sum"], ["sums"], axis=0),
        helper.make_node("MatMul", ["layer_scale", "sums"], ["logits_1d"]),
        helper.make_node("Reshape", ["logits_1d", "logits_shape"], ["last_logits"]),
    ]
    if all_logits:  # the toy gives every position the last one's
        nodes += [
            helper.make_node("Shape", ["input_ids"], ["S_1"], start=1),
            helper.make_node("Concat", ["axis_1", "S_1", "axis_1"], ["all_shape"], axis=0),
            helper.make_node("Expand", ["last_logits", "all_shape"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["last_logits"], ["logits"]))
    value = helper.make_tensor_value_info
    kv_values = {f"{name}.{i}.key": f"P_{name}_{i}" for name in ("past_key_values", "present") for i in (0, 1)}
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            value("input_ids", TensorProto.INT64, [1, "S"]),
            value("attention_mask", TensorProto.INT64, [1, "L"]),
            *(value(name, kv, [1, 1, P, VOCAB]) for name, P in kv_values.items() if name.startswith("past")),
        ],
        [
            value("logits", TensorProto.FLOAT, [1, "S" if all_logits else 1, VOCAB]),
            *(value(name, kv, [1, 1, P, VOCAB]) for name, P in kv_values.items() if name.startswith("present")),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=["shared", "growing"])
def make_decoder(request):
    shared = request.param == "shared"
    session = toy_session(shared)
    return lambda context: Decoder(session, context, WINDOWS if shared else None)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 7, 512])
def test_prefill_in_chunks_of_any_size_sees_the_same_tokens(make_decoder, chunk):
    decoder = make_decoder(len(IDS))
    np.testing.assert_array_equal(decoder.prefill(IDS, chunk), expected(IDS))
    assert decoder.length == len(IDS)


def test_steps_continue_the_prompt_past_the_window(make_decoder):
    decoder = make_decoder(50)
    np.testing.assert_array_equal(decoder.prefill(IDS[:2]), expected(IDS[:2]))
    for n in range(2, len(IDS)):
        np.testing.assert_array_equal(decoder.step(IDS[n]), expected(IDS[: n + 1]))


def test_a_token_after_a_token_comes_into_the_same_buffer(make_decoder):
    """No megabyte is allocated for each token: the caller copies what is to stay."""
    decoder = make_decoder(8)
    decoder.prefill([3, 4])
    first = decoder.step(5)
    np.testing.assert_array_equal(first, expected([3, 4, 5]))
    assert np.shares_memory(first, decoder.step(6))
    np.testing.assert_array_equal(first, expected([3, 4, 5, 6]))


def test_reset_forgets_the_sequence(make_decoder):
    decoder = make_decoder(len(IDS))
    decoder.prefill(IDS)
    decoder.reset()
    assert decoder.length == 0
    np.testing.assert_array_equal(decoder.prefill([7, 8]), expected([7, 8]))


@pytest.mark.parametrize("to", range(len(IDS) + 1))
def test_rewound_equals_fresh_or_is_refused(make_decoder, to):
    """A ring of WINDOW rows can go back as long as it has not turned over, and by one token after that."""
    for length in range(max(1, to), len(IDS) + 1):
        decoder = make_decoder(50)
        decoder.prefill(IDS[:length])
        kept = decoder.rewind(to)
        if kept:
            assert decoder.length == to
            np.testing.assert_array_equal(decoder.prefill([7, 8]), expected([*IDS[:to], 7, 8]))
        else:
            assert (decoder.length, to < length - 1, length > WINDOW) == (length, True, True)
            np.testing.assert_array_equal(decoder.step(7), expected([*IDS[:length], 7]))


def test_a_growing_cache_always_rewinds_and_nothing_goes_past_its_end():
    decoder = Decoder(toy_session(shared=False), 50, None)
    decoder.prefill(IDS)
    assert decoder.rewind(2)
    for wrong in (-1, 3):
        with pytest.raises(Problem, match="no such position to go back to"):
            decoder.rewind(wrong)


def test_a_context_smaller_than_the_window_is_enough_for_as_many_tokens(make_decoder):
    decoder = make_decoder(2)
    decoder.step(3)
    np.testing.assert_array_equal(decoder.step(4), expected([3, 4]))


def test_more_tokens_than_the_cache_holds_are_refused_and_change_nothing(make_decoder):
    decoder = make_decoder(3)
    with pytest.raises(Problem, match="do not fit the cache: context of 3 tokens: found 0 in the cache and 4 new"):
        decoder.prefill([1, 2, 3, 4], chunk=2)
    assert decoder.length == 0
    decoder.prefill([1, 2, 3])
    with pytest.raises(Problem, match="found 3 in the cache and 1 new"):
        decoder.step(4)
    assert decoder.length == 3


@pytest.mark.parametrize("ids", [[-1], [VOCAB], [2**62, 1]])
def test_ids_outside_the_vocabulary_are_refused(make_decoder, ids):
    with pytest.raises(Problem, match=f"not in the vocabulary: vocabulary of {VOCAB}: found {ids[0]};"):
        make_decoder(8).prefill(ids)


def test_an_empty_prompt_is_refused(make_decoder):
    with pytest.raises(Problem, match="nothing to run"):
        make_decoder(8).prefill([])


def test_a_failed_run_leaves_an_empty_sequence():
    growing = Decoder(toy_session(shared=False), 20, WINDOWS)  # fixed buffers do not fit a graph that grows them
    growing.length = 5
    with pytest.raises(Problem, match=r"onnxruntime could not run the model: tokens 5 to 5: found .*shape"):
        growing.step(1)
    assert growing.length == 0


@pytest.mark.parametrize("shared", [True, False])
def test_float32_caches(shared):
    decoder = Decoder(toy_session(shared, TensorProto.FLOAT), 20, WINDOWS if shared else None)
    np.testing.assert_array_equal(decoder.prefill(IDS, 5), expected(IDS))


def test_logits_of_all_positions():
    decoder = Decoder(toy_session(shared=True, all_logits=True), 20, WINDOWS)
    np.testing.assert_array_equal(decoder.forward(IDS[:5]), np.tile(expected(IDS[:5]), (5, 1)))
    np.testing.assert_array_equal(decoder.step(IDS[5]), expected(IDS[:6]))


def test_a_context_without_room_and_windows_of_another_model_are_refused():
    session = toy_session(shared=True)
    with pytest.raises(Problem, match="cannot hold a token"):
        Decoder(session, 0, WINDOWS)
    with pytest.raises(Problem, match="found 3 for 2"):
        Decoder(session, 5, (4, 0, 0))


def test_a_session_of_another_model_is_refused():
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph(nodes, "other", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(Problem, match="not ours: past_key_values: found no such input"):
        Decoder(session, 5, None)
