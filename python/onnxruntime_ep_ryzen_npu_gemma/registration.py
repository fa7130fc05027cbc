"""Where the EP library is, and how onnxruntime gets to know it.

onnxruntime is imported inside functions only: a program may want the path alone, for onnxruntime-genai or for a
runtime of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __path__
from .errors import Problem

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["get_ep_name", "get_ep_names", "get_library_path", "register", "register_genai", "session_options"]

EP_NAME = "RyzenNPUGemmaEP"
LIBRARY_NAME = "libonnxruntime_ep_ryzen_npu_gemma.so"
MIN_ORT = (1, 24)
INSTALL_GENAI = "pip install --upgrade onnxruntime onnxruntime-genai"
INSTALL_ORT = "pip install --upgrade 'onnxruntime>=1.25'"

_registered_with_genai = False


def get_ep_name() -> str:
    """The name to give in `providers=[...]`."""
    return EP_NAME


def get_ep_names() -> list[str]:
    """All names of EPs in the library: one."""
    return [EP_NAME]


def get_library_path() -> str:
    """The absolute path of the EP library, as `onnxruntime.register_execution_provider_library` needs it.

    Raises:
        Problem: the library is not in the installed package.
    """
    # An editable install has two folders: the sources, and the one in site-packages that the library is built into.
    folders = [Path(folder).resolve() for folder in __path__]
    for folder in folders:
        if (folder / LIBRARY_NAME).is_file():
            return str(folder / LIBRARY_NAME)
    raise Problem(
        "the execution provider library is missing",
        LIBRARY_NAME,
        "no such file in " + ", ".join(map(str, folders)),
        "install the package again (pip install onnxruntime-ep-ryzen-npu-gemma, or make setup in the source tree)",
    )


def register() -> None:
    """Registers the EP with onnxruntime under its own name; a second call does nothing.

    Raises:
        Problem: the library is missing, or onnxruntime is missing, too old, or refuses the library.
    """
    library = get_library_path()
    ort = _import_onnxruntime()
    if any(device.ep_name == EP_NAME for device in ort.get_ep_devices()):
        return
    try:
        ort.register_execution_provider_library(EP_NAME, library)
    except Exception as error:  # onnxruntime has one exception class for each status code, and no base of its own
        raise Problem(
            "onnxruntime refused the execution provider library",
            library,
            f"onnxruntime {ort.__version__} says: {error}",
            f"use onnxruntime 1.25 or newer ({INSTALL_ORT}), or install this package again",
        ) from error


def register_genai() -> None:
    """Registers the EP with onnxruntime-genai, which has an onnxruntime of its own; a second call does nothing.

    Before this, opening a model folder that names the EP fails with "Unknown provider name".

    Raises:
        Problem: the library is missing, or onnxruntime-genai is missing or refuses the library.
    """
    global _registered_with_genai
    if _registered_with_genai:
        return
    library = get_library_path()
    try:
        import onnxruntime_genai as og

        og.register_execution_provider_library(EP_NAME, library)
    except ImportError as error:
        raise Problem("onnxruntime-genai cannot be imported", "onnxruntime_genai", error,
                      f"install it ({INSTALL_GENAI})") from error  # fmt: skip
    except Exception as error:  # it raises RuntimeError, onnxruntime's text inside
        if "already registered" in str(error):  # by the program itself
            _registered_with_genai = True
            return
        raise Problem("onnxruntime-genai refused the execution provider library", library, error,
                      f"use 0.18 or newer, with onnxruntime 1.31 or newer ({INSTALL_GENAI})") from error  # fmt: skip
    _registered_with_genai = True


def session_options(**ep_options: object) -> onnxruntime.SessionOptions:
    """Registers the EP and returns session options that select it; works from onnxruntime 1.24 on.

    Args:
        **ep_options: the EP's options, such as `device="host"`; a bool becomes 1 or 0. onnxruntime hands them to the
            EP, which refuses unknown keys and values when a session is made.

    Raises:
        Problem: as for `register`.
    """
    register()
    ort = _import_onnxruntime()
    options = ort.SessionOptions()
    devices = [device for device in ort.get_ep_devices() if device.ep_name == EP_NAME]
    options.add_provider_for_devices(devices, {key: _option_text(value) for key, value in ep_options.items()})
    return options


def _option_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _import_onnxruntime() -> Any:  # the module, which ships no types
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise Problem("onnxruntime cannot be imported", "onnxruntime", error, f"install it ({INSTALL_ORT})") from error
    major, minor = (int(part) for part in ort.__version__.split(".")[:2])
    if (major, minor) < MIN_ORT:
        raise Problem(
            "onnxruntime is too old for plugin execution providers",
            ort.__file__,
            f"version {ort.__version__}",
            f"use 1.25 or newer ({INSTALL_ORT})",
        )
    return ort
