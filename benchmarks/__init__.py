"""Benchmarks of the real code against real servers on loopback. See README.md; run with `python -m benchmarks`."""
