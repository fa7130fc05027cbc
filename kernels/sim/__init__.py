"""The array simulator: an IRON design, unmodified, on a model of the XDNA2 array, in function and in time.

provide_aie()                       `import aie.iron` finds upstream's package, or ours where there is none
run(module, a, b, c, kernels=…)     moves the real bytes, calls the kernels, fills the outputs in place
time_design(module, kernels=…)      the same events without the bytes: seconds, and where they went
"""

from .errors import Deadlock, DesignError
from .kernel_models import KernelModel, from_contracts
from .lower import lower
from .report import picture, report, resources, where_time_goes
from .result import TimedRun
from .run import run, time_design
from .upstream_path import provide_aie

__all__ = [
    "Deadlock",
    "DesignError",
    "KernelModel",
    "TimedRun",
    "from_contracts",
    "lower",
    "picture",
    "provide_aie",
    "report",
    "resources",
    "run",
    "time_design",
    "where_time_goes",
]
