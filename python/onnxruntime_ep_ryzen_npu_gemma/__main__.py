"""`python -m onnxruntime_ep_ryzen_npu_gemma`: the command line."""

import sys

from .cli import main

sys.exit(main())
