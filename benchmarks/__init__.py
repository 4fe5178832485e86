"""Compare this server with a bare server of the same SDK: `python -m benchmarks`."""
