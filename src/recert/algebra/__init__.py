"""Two readings of a cell's equations: on arrays (``numbers``) and on bounds (``bounds``)."""
