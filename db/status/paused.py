"""Conditions that leave out the units of paused jobs; they read a row of ``unit`` as ``u``.

The first part is computed once for a statement, so that the others cost nothing while no job is paused.
"""

_WANTED = """(NOT EXISTS (SELECT FROM job AS p WHERE p.paused_at IS NOT NULL)
    OR NOT EXISTS (SELECT FROM job_item AS i JOIN job AS p USING (job_id)
                   WHERE i.analysis_id = u.analysis_id AND p.paused_at IS NOT NULL {how})
    OR EXISTS (SELECT FROM job_item AS i JOIN job AS p USING (job_id)
               WHERE i.analysis_id = u.analysis_id AND p.paused_at IS NULL AND p.cancelled_at IS NULL {how}))"""
WANTED = _WANTED.format(how="")
"""Of a unit of an analysis: a job that is not paused waits for it, or no job does."""
FIRST_WANTED = _WANTED.format(how="OFFSET 0")
"""The same in a statement that stops at its first rows: jobs are looked up unit by unit. Otherwise PostgreSQL may read
the items of all paused jobs first, which takes a quarter of a second for 200,000."""
BATCH_WANTED = "NOT EXISTS (SELECT FROM job AS p WHERE p.job_id = u.job_id AND p.paused_at IS NOT NULL)"
"""Of a batch: its job is not paused."""
