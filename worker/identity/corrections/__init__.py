"""Corrections of people: anchored to places in files, replayed into constraints and names."""
