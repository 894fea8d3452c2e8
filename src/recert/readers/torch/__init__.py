"""Torch modules as networks."""
