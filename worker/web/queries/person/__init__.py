"""Queries of the pages of one person: its faces, times, company and corrections."""
