"""Readers of videos: containers, time stamps and frames."""
