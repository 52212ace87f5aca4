"""Faces for people to label: a stratified sample of the archive, and the agreement of its labels with the heads."""
