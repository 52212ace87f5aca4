"""The content of a database, and the differences between two of them; for ``chaos.py``.

The network rounds by the batch in which a face happens to be, so a face counts as the same where its box lies within
BOX_PIXELS and its embedding within COSINE.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from db.engine import parse_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOX_PIXELS, COSINE = 3.0, 0.995


def connect(url: str) -> psycopg.Connection:
    """Open a connection to the address of a database."""
    address = parse_url(url).set(drivername="postgresql")
    return psycopg.connect(address.render_as_string(hide_password=False), connect_timeout=10)


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a database, under names that no order of work changes."""

    files: dict[str, object]
    """By SHA-256: state, reason and frames of the analysis, and how its units ended."""
    faces: dict[tuple[str, int], tuple[NDArray[np.float32], NDArray[np.float32], tuple[str | None, ...]]]
    """By file and frame: (N, 4) boxes, (N, D) embeddings (zeros where dropped), and the reason of each dropped one."""
    doubled: int
    """Faces that are there twice."""
    uris: dict[str, str]
    """Where each file was found, by SHA-256."""


def without_erased(expected: Content, found: Content, erasable: str) -> Content:
    """Return the expected content without the erased files below a folder: those that were no longer found.

    Args:
        expected: of the undisturbed run.
        found: of the disturbed one.
        erasable: path of the folder; a file elsewhere that was not found stays expected.
    """
    gone = {sha for sha in expected.files.keys() - found.files.keys() if expected.uris[sha].startswith(f"{erasable}/")}
    return replace(
        expected,
        files={sha: value for sha, value in expected.files.items() if sha not in gone},
        faces={key: value for key, value in expected.faces.items() if key[0] not in gone},
    )


def read_content(url: str) -> Content:
    """Read all files, units and faces."""
    with connect(url) as connection:
        files = {
            sha: tuple(rest)
            for sha, *rest in connection.execute("""
                SELECT m.sha256, a.state, a.reason, a.frame_count,
                       (SELECT array_agg(u.ordinal || ' ' || u.state || ' ' || u.frame_count ORDER BY u.ordinal)
                        FROM facet.unit u WHERE u.analysis_id = a.analysis_id)
                FROM facet.media_file m LEFT JOIN facet.analysis a ON a.media_id = m.media_id AND a.sampling <> '1/s'
                WHERE m.sha256 IS NOT NULL AND m.sealed_at IS NULL""")
        }
        grouped: dict[tuple[str, int], list[tuple[list[float], list[float], str | None]]] = {}
        rows = connection.execute("""
            SELECT m.sha256, f.frame_index, f.x1, f.y1, f.x2, f.y2, e.embedding::text, f.dropped_reason
            FROM facet.face f JOIN facet.analysis a USING (analysis_id) JOIN facet.media_file m USING (media_id)
            LEFT JOIN facet.face_embedding e USING (face_id)
            WHERE a.sampling <> '1/s' AND m.sealed_at IS NULL ORDER BY 1, 2, 3, 4""")
        for sha, frame, x1, y1, x2, y2, embedding, dropped in rows:
            vector = json.loads(embedding) if embedding else [0.0] * 128
            grouped.setdefault((sha, frame), []).append(([x1, y1, x2, y2], vector, dropped))
        uris = dict(connection.execute("SELECT sha256, uri FROM facet.media_file WHERE sha256 IS NOT NULL").fetchall())
        row = connection.execute("""SELECT count(*) FROM (SELECT FROM facet.face
            GROUP BY analysis_id, frame_index, face_no HAVING count(*) > 1) doubled""").fetchone()
    faces = {
        key: (np.array([f[0] for f in found], np.float32), np.array([f[1] for f in found], np.float32),
              tuple(f[2] for f in found))
        for key, found in grouped.items()
    }  # fmt: skip
    return Content(files, faces, int(row[0]) if row else 0, uris)


def compare(expected: Content, found: Content) -> tuple[list[str], Counter[str]]:
    """Return the differences, and count equal faces and those on the edge of a threshold."""
    wrong = [
        f"file {sha[:12]}: {expected.files.get(sha)} without faults, {found.files.get(sha)} with them"
        for sha in expected.files.keys() | found.files.keys()
        if expected.files.get(sha) != found.files.get(sha)
    ]
    if found.doubled:
        wrong.append(f"{found.doubled} faces are there twice")
    counts: Counter[str] = Counter()
    nothing = (np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float32), ())
    for key in expected.faces.keys() | found.faces.keys():
        counts += matched(expected.faces.get(key, nothing), found.faces.get(key, nothing))
    return wrong, counts


def matched(
    one: tuple[NDArray[np.float32], NDArray[np.float32], tuple[str | None, ...]],
    two: tuple[NDArray[np.float32], NDArray[np.float32], tuple[str | None, ...]],
) -> Counter[str]:
    """Pair the faces of one frame by their boxes."""
    counts: Counter[str] = Counter()
    free = list(range(len(two[0])))
    for box, embedding, dropped in zip(*one, strict=True):
        near = [other for other in free if np.abs(two[0][other] - box).max() <= BOX_PIXELS]
        if not near:
            counts["kept faces missing" if dropped is None else "dropped faces missing"] += 1
            continue
        other = near[0]
        free.remove(other)
        if (dropped is None) != (two[2][other] is None):
            counts["kept in one run, dropped in the other"] += 1
        elif dropped is None and float(embedding @ two[1][other]) < COSINE:
            counts["other embedding"] += 1
        else:
            counts["the same"] += 1
    for other in free:
        counts["kept faces too many" if two[2][other] is None else "dropped faces too many"] += 1
    return counts
