"""Progress and summaries of jobs, and health checks of the ledger."""
