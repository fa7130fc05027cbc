"""onnxruntime-genai's model builder: HF_FOLDER OUTPUT --precision P [--provider EP] [--options KEY=VALUE ...].

Builder 0.18.0 cannot read transformers 5's Gemma3 configuration: it looks for one `rope_type` where there is one for
each kind of layer, and for `rope_theta` and `rope_local_base_freq` where they no longer are.  The patch here puts them
back.  It has no linear RoPE scaling to give (the builder would apply one factor to both kinds), so a model that needs
it is refused.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any


def import_builder() -> Any:
    """The builder's module; it is a script that imports its neighbours by bare names."""
    package = importlib.util.find_spec("onnxruntime_genai")
    assert package is not None and package.submodule_search_locations
    sys.path.insert(0, str(Path(package.submodule_search_locations[0]) / "models"))
    import builder

    return builder


def patch(builder: Any) -> None:
    """Gives the builder the RoPE bases as it looks for them."""
    get_hf_details = builder.get_hf_details

    def get_patched_hf_details(*arguments: Any) -> dict[str, Any]:
        details: dict[str, Any] = get_hf_details(*arguments)
        rope = details["hf_config"].rope_parameters
        kinds = {kind: parameters["rope_type"] for kind, parameters in rope.items()}
        if set(kinds.values()) != {"default"}:
            raise ValueError(f"genai's builder cannot export Gemma3 with scaled RoPE; the model has {kinds}")
        details["hf_config"].rope_theta = rope["full_attention"]["rope_theta"]
        details["hf_config"].rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
        return details

    builder.get_hf_details = get_patched_hf_details
    builder.Gemma3Model.make_rope_init = lambda self, config: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hf_folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    builder = import_builder()
    patch(builder)
    with tempfile.TemporaryDirectory() as cache:
        where = ("", str(arguments.hf_folder), str(arguments.output.parent))
        how = (arguments.precision, arguments.provider, cache)
        options = builder.parse_extra_options(*where, *how, [f"filename={arguments.output.name}", *arguments.options])
        builder.create_model(*where, *how, **options)


if __name__ == "__main__":
    main()
