"""The work of schedules that are due."""
