"""Norms, logarithms, tail bounds, union bounds, rounding: pure numbers."""
