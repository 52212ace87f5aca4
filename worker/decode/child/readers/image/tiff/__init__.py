"""TIFF files: their structure, pages and samples."""
