"""Many rows at a time: COPY into tables, and arrays read in blocks."""
