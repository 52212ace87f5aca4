"""Data sets as typed columns, and the aligned crops of their images."""
