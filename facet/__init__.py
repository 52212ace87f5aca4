"""Facet: who appears where in a media archive."""
