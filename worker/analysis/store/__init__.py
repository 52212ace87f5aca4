"""Stores units, crops and appearances, each in a transaction with its state."""
