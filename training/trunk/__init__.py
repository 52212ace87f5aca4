"""Trains new trunks for identity."""
