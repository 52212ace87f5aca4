"""Trains a trunk of one's own for identity."""
