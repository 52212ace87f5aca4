"""A server that does not start says why in one line."""

from __future__ import annotations

import pytest

from db.server.pgwheel import telling_line


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            (
                "creating configuration files ... ok\n"
                "2026-11-28 LOG:  could not write file: No space left on device\n"
                'child process exited with exit code 1\ninitdb: removing contents of data directory "/x"\n'
            ),
            "the disk is full, free some space (2026-11-28 LOG:  could not write file: No space left on device)",
        ),
        (
            'initdb: error: could not create directory "/x": Permission denied\ninitdb: removing data directory\n',
            'initdb: error: could not create directory "/x": Permission denied',
        ),
        ("FATAL:  could not load library\nstopped waiting\n", "FATAL:  could not load library"),
        ("waiting\nstopped waiting\n\n", "stopped waiting"),
        ("", "no output"),
    ],
)
def test_the_line_that_says_why_is_found(output, expected):
    assert telling_line(output) == expected
