"""A model, a sample and declarations in, a certificate out."""
