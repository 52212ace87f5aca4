"""Readers of TIFF files: structure, pages and samples."""
