"""Errors of models and releases.

ModelError               base; its text is one line: what was found, what was expected, what to do
├── WeightsError         a weights file is not the one its release names, or does not fit its model
└── ReleaseError         a release folder is missing, incomplete or asks for something unknown
"""

from __future__ import annotations


class ModelError(Exception):
    """A model or a release is wrong; the text states what was found, what was expected and what to do."""


class WeightsError(ModelError):
    """A weights file is damaged, exchanged or does not fit: fetch or convert it again."""


class ReleaseError(ModelError):
    """A release cannot be read or written as asked: see docs/release-format.md for what a folder must hold."""
