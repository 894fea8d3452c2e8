"""Class-wide: norms and sensitivities of every value after T steps; gates and their rates."""
