"""Data sets as typed columns, and the crops that are cut from their images."""
