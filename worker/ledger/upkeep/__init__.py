"""Upkeep: when it ran, and what no row needs any longer in the crop store and the staging folder."""
