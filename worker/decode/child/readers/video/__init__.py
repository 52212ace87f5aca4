"""Videos: containers, time stamps and frames."""
