"""A deployment: Celery's tasks and schedule, the processes of a worker, its watchdog, doctor and metrics endpoint."""
