"""Erasure: deletes files and people from all tables and stores, and returns a receipt.

The entry point is ``erase``; ``docs/erasure.md`` states the promises and their limits.
"""
