"""Commands that show results on or beside media."""
