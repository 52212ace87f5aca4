"""Schedules: rows that state when people are regrouped, due files are erased and archives are reprocessed."""
