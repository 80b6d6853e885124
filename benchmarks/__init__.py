"""What the daemon costs, beside its peers: run `python -m benchmarks --help`."""
