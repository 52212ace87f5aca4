"""Releases and trunks: export, conversion of published weights, description and speed."""
