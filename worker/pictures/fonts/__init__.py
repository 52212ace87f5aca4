"""Typefaces of drawn images: the shipped one for Latin, Greek, Cyrillic, Hebrew and Arabic, then others."""
