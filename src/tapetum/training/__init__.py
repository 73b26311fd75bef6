"""Training: recipes, optimizer, checkpoints, the loop."""
