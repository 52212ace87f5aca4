"""Submission and cancelling of jobs: files become units in a fair order."""
