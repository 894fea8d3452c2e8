"""The paper's evaluation anew, one folder a study; ``recert reproduce`` runs them."""
