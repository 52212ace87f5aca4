"""Measures releases on labelled data: attributes, verification, detection, and figures by size of the face."""
