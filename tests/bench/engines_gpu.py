"""How fast does each precision draw on the GPU with the shipped generator, against diffusers' own call?

python -m tests.bench.engines_gpu [--quick] [--json FILE] [--markdown FILE]
"""

import sys

import torch

from tests.bench.engines_speed import bench
from tests.bench.report import parser

CONTENDERS = {
    "torch fp32": {"backend": "torch", "precision": "fp32"},
    "torch fp16": {"backend": "torch", "precision": "fp16"},
    "torch bf16": {"backend": "torch", "precision": "bf16"},
}

if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        sys.exit("engines_gpu needs a CUDA device; engines_cpu measures without one")
    bench("engines_gpu", "cuda", CONTENDERS, options)
