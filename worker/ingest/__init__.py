"""Finds media in files, folders and archives, by content and never by name; nothing that was given vanishes."""

from worker.ingest.discover import check_arguments, discover
from worker.ingest.items import Found, IngestOptions, Refused
from worker.ingest.ranges import RangeOptions, plan_ranges

__all__ = ["Found", "IngestOptions", "RangeOptions", "Refused", "check_arguments", "discover", "plan_ranges"]
