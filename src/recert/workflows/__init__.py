"""What commands do: train, certify, compress, compare, demo."""
