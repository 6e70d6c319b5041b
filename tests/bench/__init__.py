"""Benchmarks: scripts that measure side by side and print the command that repeats them."""
