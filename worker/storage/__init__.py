"""Where bytes lie: folders and stores that may be read, copies of what was fetched, crops, home and the database."""
