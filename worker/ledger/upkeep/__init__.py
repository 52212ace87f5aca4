"""Upkeep: its runs, and the removal of files that no row needs from the crop store and the staging folder."""
