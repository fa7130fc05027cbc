"""model.q4nx folders: written, read back, damaged, and written by others who mean something else."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.sources import SourceError, open_source
from onnxruntime_ep_ryzen_npu_gemma.sources.safetensors_header import read_header

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module", params=["q4nx", "q8"])
def exported(request: pytest.FixtureRequest, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("q4nx ü") / request.param
    assert main(["convert", str(tiny_gguf), str(out), "--format", "q4nx", "--lm-head", request.param]) == 0
    return out


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def edit(folder: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    """Changes the bytes of a tensor in place."""
    span = read_header(folder / "model.q4nx")[name].span
    data = np.memmap(folder / "model.q4nx", np.uint8, "r+", span.offset, span.nbytes)
    change(data)
    data.flush()


def edit_header(folder: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    data = (folder / "model.q4nx").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / "model.q4nx").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_reads_what_it_wrote(exported: Path, tiny_gguf: Path) -> None:
    ours, original = open_source(exported), open_source(tiny_gguf)
    assert ours.config == original.config
    assert ours.names() == original.names()
    for name in original.names():
        want, have = original.tensor(name), ours.tensor(name)
        assert have.shape == ours.shape(name) == want.shape
        # bfloat16 norms; 4 bits of Gaussian weights lose 5e-3.
        assert ((have - want) ** 2).sum() < (7e-3 if want.ndim == 2 else 2**-16) * (want**2).sum(), name


def test_others_read_it(exported: Path) -> None:
    """Names, types and meaning of the public convention, through the safetensors package."""
    raw = (exported / "model.q4nx").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert (header[UP]["dtype"], header[UP]["shape"]) == ("I8", [5, 5120])  # 160 x 64
    assert header[EMBEDDING]["dtype"] == header["model.norm.weight"]["dtype"] == "BF16"
    tensors = load_file_without_bf16(exported / "model.q4nx", header)
    head = q4nx.dequantize(tensors[HEAD].view(np.uint8), 512, 64)
    embedding = open_source(exported).tensor(EMBEDDING)
    np.testing.assert_array_equal(head, embedding)


def load_file_without_bf16(path: Path, header: dict[str, dict[str, object]]) -> dict[str, np.ndarray]:
    """numpy has no bfloat16: the package reads the rest of a copy in which those are plain words."""
    copy = path.with_suffix(".copy")
    data = path.read_bytes()
    text = json.dumps({k: {**v, "dtype": "U16" if v["dtype"] == "BF16" else v["dtype"]} for k, v in header.items()})
    copy.write_bytes(struct.pack("<Q", len(text)) + text.encode() + data[8 + struct.unpack("<Q", data[:8])[0] :])
    tensors: dict[str, np.ndarray] = load_file(copy)
    copy.unlink()
    return tensors


def test_codes_go_through_a_second_conversion_unchanged(exported: Path, tmp_path: Path) -> None:
    out, head = tmp_path / "again", exported.name
    assert main(["convert", str(exported), str(out), "--format", "q4nx", "--lm-head", head]) == 0
    first, second = (read_header(path / "model.q4nx") for path in (exported, out))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if name != EMBEDDING and (name != HEAD or head == "q4nx"):  # 8-bit codes are made again
            np.testing.assert_array_equal(tensor.span.read_bytes(), second[name].span.read_bytes(), err_msg=name)


def signed(blocks: np.ndarray) -> None:
    blocks[:, 1024:] ^= 0x88


def subtractive(blocks: np.ndarray) -> None:
    scale, minimum = (q4nx.from_bfloat16(blocks[:, i : i + 512].copy().view(np.uint16)) for i in (0, 512))
    zero = np.where(scale == 0, 0, -minimum / np.where(scale == 0, 1, scale))
    blocks[:, 512:1024] = q4nx.to_bfloat16(zero).view(np.uint8)


def high_nibble_first(blocks: np.ndarray) -> None:
    blocks[:, 1024:] = blocks[:, 1024:] << 4 | blocks[:, 1024:] >> 4


def symmetric_head(folder: Path, row_major: bool = False) -> None:
    """Writes the head as w = scale * (q - 8), the nibbles in two's complement, as other converters do."""
    source = open_source(folder)
    w = source.tensor(EMBEDDING)
    groups = w.reshape(len(w), -1, 32)
    scale = q4nx.to_bfloat16(np.abs(groups).max(axis=-1) / 7)
    q = np.rint(groups / q4nx.from_bfloat16(scale)[..., None]).astype(np.int8).reshape(w.shape)
    blocks = q4nx.pack(scale, np.zeros_like(scale), q.astype(np.uint8) & 15)
    if row_major:
        scales = blocks[:, :512].copy().view(np.uint16).reshape(-1, 8, 32).transpose(0, 2, 1)
        blocks[:, :512] = np.ascontiguousarray(scales).view(np.uint8).reshape(-1, 512)
    edit(folder, HEAD, lambda data: np.copyto(data.reshape(-1, 5120), blocks))


@pytest.mark.parametrize("reading", ["signed", "subtractive", "signed row-major", None])
def test_refuses_another_meaning_by_its_name(folder: Path, reading: str | None) -> None:
    if open_source(folder).type_name(EMBEDDING) != "Q4NX":
        pytest.skip("8-bit blocks have one reading")
    match reading:
        case "signed":
            symmetric_head(folder)
        case "signed row-major":
            symmetric_head(folder, row_major=True)
        case "subtractive":
            edit(folder, HEAD, lambda data: subtractive(data.reshape(-1, 5120)))
        case None:
            edit(folder, HEAD, lambda data: high_nibble_first(data.reshape(-1, 5120)))
    with pytest.raises(SourceError, match="do not mean what Q4NX means") as error:
        open_source(folder)
    assert f"agree as {reading} blocks" in error.value.found if reading else "agree as" not in error.value.found


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda h: h[UP].update(shape=[4, 5120]), "blocks do not match"),
        (lambda h: h[UP].update(shape=[10, 2560]), "blocks do not match"),
        (lambda h: h[UP].update(dtype="Q4NX"), "not the blocks that are known"),
        (lambda h: h[UP].update(data_offsets=[0, 5 * 5120]), "two tensors overlap"),
        (lambda h: h[UP].update(data_offsets=[1 << 40, (1 << 40) + 5 * 5120]), "outside of the file"),
        (lambda h: h[EMBEDDING].update(dtype="F16"), "does not match the configuration"),
        (lambda h: h[EMBEDDING].update(shape=[64, 512]), "does not match the configuration"),
        (lambda h: h.pop(HEAD), "a tensor is missing"),
        (lambda h: h.update(extra=h.pop(UP)), "a tensor is missing"),
    ],
    ids=["count", "width", "type", "overlap", "outside", "embedding type", "embedding shape", "no head", "renamed"],
)
def test_refuses_a_lying_header(
    folder: Path, change: Callable[[dict[str, dict[str, object]]], None], what: str
) -> None:
    edit_header(folder, change)
    with pytest.raises(SourceError, match=what):
        open_source(folder)


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers"])
def test_refuses_another_models_configuration(folder: Path, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[key] *= 2
    config["layer_types"] = (config["layer_types"] * 2)[: config["num_hidden_layers"]]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError):
        open_source(folder)


def test_refuses_a_cut_file_and_infinite_scales(folder: Path) -> None:
    edit(folder, UP, lambda data: np.copyto(data[:2], np.array([0x80, 0x7F], np.uint8)))
    with pytest.raises(SourceError, match=f"not a finite number.*{UP}"):
        open_source(folder).tensor(UP)
    data = (folder / "model.q4nx").read_bytes()
    (folder / "model.q4nx").write_bytes(data[:-1])
    with pytest.raises(SourceError, match="outside of the file"):
        open_source(folder)
