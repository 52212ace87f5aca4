"""Appearances in the formats of players, subtitle editors, annotation tools and viewers: a writer a format."""
