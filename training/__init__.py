"""Data sets, losses, recipes, evaluation and the conversion of ready weights."""
