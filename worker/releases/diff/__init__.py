"""What changes for the archive with another release: counts, tables, groups, people, corrections, questions."""
