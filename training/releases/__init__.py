"""Releases and trunks: made, converted from published weights, described and timed."""
