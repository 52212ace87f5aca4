"""Readers of images of one or several pages, of any bit depth."""
