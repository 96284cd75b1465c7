"""How fast does each CPU backend draw with the shipped generator, against diffusers' own call?

python -m tests.bench.engines_cpu [--quick] [--json FILE] [--markdown FILE]
"""

from tests.bench.engines_speed import bench
from tests.bench.report import parser

if __name__ == "__main__":
    bench(
        "engines_cpu",
        "cpu",
        {"torch fp32": {"backend": "torch"}, "onnxruntime fp32": {"backend": "ort"}},
        parser(__doc__).parse_args(),
    )
