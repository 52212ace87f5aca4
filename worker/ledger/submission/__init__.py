"""What jobs ask for: files become units in a fair order, and jobs are cancelled."""
