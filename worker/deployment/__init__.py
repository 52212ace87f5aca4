"""A deployment: Celery application, tasks and schedule, processes, watchdog, doctor and metrics endpoint."""
