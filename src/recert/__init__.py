"""recert: generalization certificates for recurrent networks."""

__version__ = "0.1.0"
