"""What `benchmarks/run.py` measures, and what stands beside it."""
