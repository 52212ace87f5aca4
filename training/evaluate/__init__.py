"""Measures releases on labelled data: attributes, verification, detection, sizes of faces."""
