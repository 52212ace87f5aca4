"""Reprocessing: fills in what a release lacks, from the cheapest source that gives the rows of a fresh analysis.

What a release lacks is a query (``lacking``). ``plan`` cuts it into batches, ``batches`` computes and stores them, and
``runner`` leases them in a worker process. A second run finds nothing to do.
"""
