"""Queries of reports: about a job, a file or a person, read as the reader."""
