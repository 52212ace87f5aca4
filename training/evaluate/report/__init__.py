"""Evaluations as tables, plots and comparisons."""
