"""Faces in frames: the detector, and the checks that turn its candidates into faces."""
