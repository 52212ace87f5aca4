"""Grouping of appearances into people: reads arrays only, neither rows nor names."""
