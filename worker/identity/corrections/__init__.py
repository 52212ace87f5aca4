"""Corrections of people: statements about places in files, replayed into constraints and names."""
