"""Folders and stores that may be read, copies of fetched files, crops, the home folder and the database."""
