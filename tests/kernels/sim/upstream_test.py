"""Our `aie` package has nothing that mlir-aie's lacks, and its functions take the same arguments.

The tables are upstream's, read from its sources of March 2026 (python/iron, python/helpers).
"""

from __future__ import annotations

import importlib
import inspect
from collections import abc
from typing import Any

import pytest

from tests.kernels.sim import designs

SIGNATURES = {
    "iron:ObjectFifo.__init__": (
        "obj_type, depth=2, name=None, dims_to_stream=None, dims_from_stream_per_cons=None, plio=False, "
        "pad_dimensions=None"
    ),
    "iron:ObjectFifo.prod": "depth=None",
    "iron:ObjectFifo.cons": "depth=None, dims_from_stream=None",
    "iron.dataflow:ObjectFifoHandle.acquire": "num_elem",
    "iron.dataflow:ObjectFifoHandle.release": "num_elem",
    "iron.dataflow:ObjectFifoHandle.join": (
        "offsets, placement=AnyMemTile, depths=None, obj_types=None, names=None, dims_to_stream=None, "
        "dims_from_stream=None, plio=False"
    ),
    "iron.dataflow:ObjectFifoHandle.split": (
        "offsets, placement=AnyMemTile, depths=None, obj_types=None, names=None, dims_to_stream=None, "
        "dims_from_stream=None, plio=False"
    ),
    "iron.dataflow:ObjectFifoHandle.forward": (
        "placement=AnyMemTile, obj_type=None, depth=None, name=None, dims_to_stream=None, dims_from_stream=None, "
        "plio=False"
    ),
    "iron.dataflow:ObjectFifoLink.__init__": "srcs, dsts, placement=AnyMemTile, src_offsets=[], dst_offsets=[]",
    "iron:Worker.__init__": (
        "core_fn, fn_args=[], placement=AnyComputeTile, while_true=True, stack_size=None, "
        "allocation_scheme=None, trace=None, trace_events=None"
    ),
    "iron:WorkerRuntimeBarrier.__init__": "initial_value=0",
    "iron:WorkerRuntimeBarrier.wait_for_value": "value",
    "iron:WorkerRuntimeBarrier.release_with_value": "value",
    "iron:Buffer.__init__": "type=None, initial_value=None, name=None, placement=None, use_write_rtp=False",
    "iron:Kernel.__init__": "name, object_file_name, arg_types=[]",
    "iron:ExternalFunction.__init__": (
        "name, object_file_name=None, source_file=None, source_string=None, arg_types=[], include_dirs=[], "
        "compile_flags=[]"
    ),
    "iron.kernel:BaseKernel.tile_size": "arg_index=0",
    "iron.kernel:BaseKernel.arg_types": "",
    "iron.kernel:BaseKernel.__call__": "*args, **kwargs",
    "iron:Program.__init__": "device, rt",
    "iron:Program.resolve_program": "placer=None, device_name='main'",
    "iron.placers:SequentialPlacer.__init__": "cores_per_col=None",
    "iron.placers:SequentialPlacer.make_placement": "device, rt, workers, object_fifos",
    "iron:Runtime.__init__": "strict_task_groups=True",
    "iron:Runtime.sequence": "*input_types",
    "iron:Runtime.task_group": "",
    "iron:Runtime.finish_task_group": "task_group",
    "iron:Runtime.fill": "in_fifo, source, tap=None, task_group=None, wait=False, placement=AnyShimTile",
    "iron:Runtime.drain": "out_fifo, dest, tap=None, task_group=None, wait=False, placement=AnyShimTile",
    "iron:Runtime.start": "*args",
    "iron:Runtime.inline_ops": "inline_func, inline_args",
    "iron:Runtime.set_barrier": "barrier, value",
    "iron.device:Tile.__init__": "col, row, allocation_scheme=None",
    "helpers.taplib:TensorAccessPattern.__init__": "tensor_dims, offset, sizes, strides",
    "helpers.taplib:TensorAccessPattern.access_order": "",
    "helpers.taplib:TensorAccessPattern.access_count": "",
    "helpers.taplib:TensorAccessPattern.accesses": "",
    "helpers.taplib:TensorAccessPattern.compare_access_orders": "other",
    "helpers.taplib:TensorAccessSequence.__init__": (
        "tensor_dims, num_steps, offset=None, sizes=None, strides=None, offset_fn=None, sizes_fn=None, strides_fn=None"
    ),
    "helpers.taplib:TensorAccessSequence.from_taps": "taps",
    "helpers.taplib:TensorAccessSequence.insert": "index, value",
    "helpers.taplib:TensorTiler2D.simple_tiler": (
        "tensor_dims, tile_dims=None, tile_col_major=False, iter_col_major=False, pattern_repeat=1, prune_step=True"
    ),
    "helpers.taplib:TensorTiler2D.group_tiler": (
        "tensor_dims, tile_dims, tile_group_dims=None, tile_col_major=False, tile_group_col_major=False, "
        "iter_col_major=False, pattern_repeat=1, allow_partial=False, prune_step=True"
    ),
    "helpers.taplib:TensorTiler2D.step_tiler": (
        "tensor_dims, tile_dims, tile_group_repeats, tile_group_steps=None, tile_col_major=False, "
        "tile_group_col_major=False, iter_col_major=False, allow_partial=False, pattern_repeat=1, prune_step=True"
    ),
    "iron:str_to_dtype": "dtype_str",
    "iron:dtype_to_str": "dtype",
    "helpers.dialects.scf:_for": (
        "start, stop=None, step=None, iter_args=None, insert_yield=True, *, loc=None, ip=None"
    ),
    "helpers.dialects.scf:if_": "cond, hasElse=True, insert_yield=True, loc=None, ip=None",
    "helpers.dialects.scf:else_": "if_op, insert_yield=True",
}

PUBLIC = {
    "iron:ObjectFifo": (
        "can_used_shared_mem cons depth dims_from_stream_per_cons dims_to_stream dtype name obj_type op prod "
        "resolve set_iter_count shape tiles"
    ),
    "iron.dataflow:ObjectFifoHandle": (
        "acquire all_of_endpoints depth dims_from_stream dtype endpoint forward handle_type join name obj_type "
        "op release resolve shape split"
    ),
    "iron.dataflow:ObjectFifoLink": "place resolve tile",
    "iron:Worker": "allocation_scheme buffers core_fn fifos fn_args place resolve stack_size tile trace trace_events",
    "iron:WorkerRuntimeBarrier": "initial_value release_with_value wait_for_value worker_locks",
    "iron:Buffer": "dtype op place resolve shape tile",
    "iron.kernel:BaseKernel": "arg_types tile_size",
    "iron:Kernel": "arg_types object_file_name resolve tile_size",
    "iron:ExternalFunction": "arg_types object_file_name resolve tile_size",
    "iron:Program": "resolve_program",
    "iron.placers:SequentialPlacer": "cores_per_col make_placement",
    "iron:Runtime": (
        "ddr_id drain enable_trace fifos fill finish_task_group get_first_cons_shimtile inline_ops resolve "
        "sequence set_barrier start task_group workers"
    ),
    "iron.device:Tile": "allocation_scheme col op row",
    "helpers.taplib:TensorAccessPattern": (
        "access_count access_generator access_order accesses compare_access_orders offset sizes strides "
        "tensor_dims transformation_dims visualize"
    ),
    "helpers.taplib:TensorAccessSequence": (
        "access_count access_order accesses animate compare_access_orders from_taps insert visualize"
    ),
    "helpers.taplib:TensorTiler2D": "group_tiler simple_tiler step_tiler",
    "iron.device:Device": (
        "cols get_compute_tiles get_mem_tiles get_num_connections get_num_dest_shim_mux_connections "
        "get_num_dest_switchbox_connections get_num_source_shim_mux_connections "
        "get_num_source_switchbox_connections get_shim_tiles is_mem_accessible resolve_tile rows tile_iterator"
    ),
}


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(f"aie.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    return found


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def written(function: Any) -> str:
    """The signature as in the table: names and defaults, without types."""
    parts = []
    keywords = False
    for p in inspect.signature(function).parameters.values():
        if p.name in {"self", "cls"}:
            continue
        if p.kind is p.KEYWORD_ONLY and not keywords:
            keywords = True
            parts.append("*")
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = p.default.__name__ if isinstance(p.default, type) else repr(p.default)
        parts.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={default}"))
    return ", ".join(parts)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_upstreams(name: str) -> None:
    assert written(find(name)) == SIGNATURES[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_class_has_no_names_of_its_own(name: str) -> None:
    """What a design could use here, it can use under upstream."""
    ours = public(dir(find(name))) - public(dir(abc.MutableSequence))
    assert ours - set(PUBLIC[name].split()) == set()


def test_instances_have_no_names_of_their_own() -> None:
    fifo = designs.ObjectFifo(designs.array(64), name="x")
    worker = designs.Worker(None, [fifo.cons()])
    kernel, buffer = designs.Kernel("k", "k.o", []), designs.Buffer(designs.array(4))
    for thing in (fifo, fifo.prod(), worker, kernel, buffer, designs.Tile(0, 0)):
        name = next(key for key in PUBLIC if key.endswith(f":{type(thing).__name__}"))
        assert public(list(vars(thing))) - set(PUBLIC[name].split()) == set(), name


def test_what_upstream_lacks_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        designs.ObjectFifo(designs.array(64), depth=2, priority=1)
    with pytest.raises(AttributeError):
        designs.ObjectFifo(designs.array(64)).broadcast()
    with pytest.raises(AttributeError):
        find("iron:Stream")


def test_what_is_not_simulated_is_refused_and_not_ignored() -> None:
    with pytest.raises(NotImplementedError, match="plio"):
        designs.ObjectFifo(designs.array(64), plio=True)
    with pytest.raises(NotImplementedError, match="trace"):
        designs.Worker(None, [], trace=1)


@pytest.mark.parametrize("misuse", ["branch", "range", "types", "index"])
def test_a_core_function_is_recorded_and_cannot_look_at_values(misuse: str) -> None:
    """Each of these fails under upstream too, where values exist only as MLIR."""
    fifo = designs.ObjectFifo(designs.array(64), name="x")
    kernel = designs.Kernel("k", "k.o", [designs.array(64), designs.I32])

    def core(x: Any, kernel: Any) -> None:
        for i in designs.range_(4):
            element = x.acquire(1)
            if misuse == "branch" and i == 0:
                pass
            if misuse == "range":
                list(range(i))
            if misuse == "types":
                kernel(element, i)
            if misuse == "index":
                element[0] = element[i] + i
            x.release(1)

    rt = designs.Runtime()
    with rt.sequence(designs.array(256)) as source:
        rt.start(designs.Worker(core, [fifo.cons(), kernel], placement=designs.Tile(0, 2)))
        rt.fill(fifo.prod(), source, wait=True)
    with pytest.raises(TypeError, match=r"known only when the core runs|index_cast|equal types only"):
        designs.resolve(rt)


@pytest.mark.parametrize("placement", ["none", "equal", "same"])
def test_without_a_placer_a_buffer_needs_its_workers_tile(placement: str) -> None:
    """Upstream resolves the Tile objects of workers and FIFO ends; another one, though equal, has no operation."""
    tile = designs.Tile(0, 2)
    where = {"none": None, "equal": designs.Tile(0, 2), "same": tile}[placement]
    buffer = designs.Buffer(designs.array(16), name="state", placement=where)
    fifo = designs.ObjectFifo(designs.array(64), name="x")

    def core(x: Any, state: Any) -> None:
        x.acquire(1)
        x.release(1)

    rt = designs.Runtime()
    with rt.sequence(designs.array(64)) as source:
        rt.start(designs.Worker(core, [fifo.cons(), buffer], placement=tile))
        rt.fill(fifo.prod(), source, wait=True, placement=designs.Tile(0, 0))
    program = find("iron:Program")(designs.NPU2(), rt)
    if placement == "same":
        program.resolve_program()
        return
    with pytest.raises(ValueError, match=r"until it has been placed|same Tile object"):
        program.resolve_program()


def test_a_placer_does_not_place_a_placed_buffer() -> None:
    tile = designs.Tile(0, 2)
    buffer = designs.Buffer(designs.array(16), name="state", placement=tile)
    rt = designs.Runtime()
    with rt.sequence(designs.array(64)):
        rt.start(designs.Worker(lambda state: None, [buffer], placement=tile))
    with pytest.raises(find("iron.placeable:AlreadyPlacedError"), match="already placed"):
        designs.resolve(rt)
