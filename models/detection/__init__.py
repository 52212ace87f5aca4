"""Faces in frames: the detector, and how its candidates become faces that can be believed."""
