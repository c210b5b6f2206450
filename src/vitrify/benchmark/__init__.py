"""Measuring: one session in its own process, or a model on Vitrify and on its peers.

>>> bench = vitrify.benchmark.Benchmark(session, {"input": array})
>>> bench.measure_latency(benchmark_runs=100).p99_ms
>>> compare(vitrify.compile("model.onnx"), {"input": array}, model=Path("model.onnx")).latency
"""

from vitrify.benchmark.comparison import Agreement as Agreement
from vitrify.benchmark.comparison import Comparison as Comparison
from vitrify.benchmark.comparison import compare as compare
from vitrify.benchmark.difference import Difference as Difference
from vitrify.benchmark.difference import compare_output as compare_output
from vitrify.benchmark.processes import ProcessFigures as ProcessFigures
from vitrify.benchmark.session import Benchmark as Benchmark
from vitrify.benchmark.session import MemoryProfile as MemoryProfile
from vitrify.benchmark.session import Runs as Runs
from vitrify.benchmark.session import resident_bytes as resident_bytes
from vitrify.benchmark.timing import Latency as Latency
from vitrify.benchmark.timing import Throughput as Throughput
