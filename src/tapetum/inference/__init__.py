"""The classifier and its predictions."""
