"""The changes that another release makes to the archive: counts, tables, groups, people, corrections, questions."""
