"""How fast, against a bare loop and other simulators: `python benchmarks/speed`."""
