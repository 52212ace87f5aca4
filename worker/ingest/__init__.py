"""Finds media in files, folders and archives, by content and never by name; every file is reported."""

from worker.ingest.discover import check_arguments, discover
from worker.ingest.items import FoundFile, IngestOptions, RefusedFile
from worker.ingest.ranges import RangeOptions, plan_ranges

__all__ = ["FoundFile", "IngestOptions", "RangeOptions", "RefusedFile", "check_arguments", "discover", "plan_ranges"]
