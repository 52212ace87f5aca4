"""The running application: ledger, stages, Celery tasks and the command line."""
