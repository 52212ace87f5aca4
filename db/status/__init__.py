"""Queries on the state of jobs, units and releases."""
