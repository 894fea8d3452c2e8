"""Sequences and labels, checked; what recurs within and between samples."""
