"""Contradictions between releases, the rows of their layers, and the release store: for ``facet db check --rows``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.schema.totals import find_differences
from worker.errors import FacetError, RetryableError
from worker.releases.records import read_stored, store_name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from worker.storage.release_store import ReleaseStore

MAX_PEOPLE = 5  # that are named; one is as bad as a hundred

# Layers whose rows may be there: those of a release that is not retired, or whose rows are being removed.
_NAMED = """
    SELECT c.layer_id FROM release AS r LEFT JOIN release_reading AS o USING (release_id)
    CROSS JOIN LATERAL (VALUES (r.finder_id), (r.trunk_id), (o.head_id), (o.reading_id)) AS c (layer_id)
    WHERE c.layer_id IS NOT NULL AND (r.retired_at IS NULL OR (r.retirement ->> 'step') <> 'done')"""
_ACTIVE = text("""
    SELECT count(*) FILTER (WHERE active) AS active, count(*) AS releases,
           coalesce(array_agg(name) FILTER (WHERE active AND retired_at IS NOT NULL), '{}') AS retired
    FROM release""")
# Each returns the sentences about what it finds, by the release's name and number.
_CHOICES: tuple[str, ...] = (
    """SELECT format('release %s (%s) has trunk %s, which does not belong to its finder %s', r.name, r.release_id,
                     r.trunk_id, r.finder_id)
       FROM release AS r LEFT JOIN layer AS l ON l.layer_id = r.trunk_id AND l.kind = 'trunk'
       WHERE l.parent_id IS DISTINCT FROM r.finder_id ORDER BY r.release_id""",
    """SELECT format('release %s (%s) has head %s of %s, which does not belong to its trunk %s', r.name, r.release_id,
                     o.head_id, o.task, r.trunk_id)
       FROM release AS r JOIN release_reading AS o USING (release_id)
       LEFT JOIN layer AS l ON l.layer_id = o.head_id AND l.kind = 'head' AND l.task = o.task
       WHERE l.parent_id IS DISTINCT FROM r.trunk_id ORDER BY r.release_id, o.task""",
    """SELECT format('release %s (%s) has reading %s of %s, which does not belong to its head %s', r.name, r.release_id,
                     o.reading_id, o.task, o.head_id)
       FROM release AS r JOIN release_reading AS o USING (release_id)
       LEFT JOIN layer AS l ON l.layer_id = o.reading_id AND l.kind = 'reading' AND l.task = o.task
       WHERE l.parent_id IS DISTINCT FROM o.head_id ORDER BY r.release_id, o.task""",
    """SELECT format('release %s (%s) has the branch %s, and no reading of it', r.name, r.release_id, b ->> 'task')
       FROM release AS r CROSS JOIN LATERAL jsonb_array_elements(r.manifest -> 'branches') AS b
       WHERE NOT EXISTS (SELECT FROM release_reading AS o
                         WHERE o.release_id = r.release_id AND o.task = b ->> 'task') ORDER BY r.release_id""",
    """SELECT format('release %s (%s) has no state of identification under its trunk %s', r.name, r.release_id,
                     r.trunk_id)
       FROM release AS r
       WHERE r.retired_at IS NULL AND NOT EXISTS (SELECT FROM trunk_state AS t WHERE t.trunk_id = r.trunk_id)
       ORDER BY r.release_id""",
    """SELECT format('release %s (%s) was retired, and %s units of it are open', r.name, r.release_id, count(*))
       FROM release AS r JOIN unit AS u USING (release_id)
       WHERE (r.retirement ->> 'step') = 'done' AND u.state IN ('pending', 'leased')
       GROUP BY r.release_id ORDER BY r.release_id""",
    """SELECT format('release %s (%s) was retired, and reprocess job %s of it has not ended', r.name, r.release_id,
                     j.job_id)
       FROM release AS r JOIN job AS j USING (release_id)
       WHERE (r.retirement ->> 'step') = 'done' AND j.finished_at IS NULL ORDER BY j.job_id""",
)
_SHELVED = text("""
    SELECT count(*) FROM unit AS u
    WHERE u.shelved AND CASE WHEN u.stage = 'reprocess'
        THEN EXISTS (SELECT FROM job AS j
                     WHERE j.job_id = u.job_id AND j.paused_at IS NULL AND j.shelf_next IS NULL)
        ELSE EXISTS (SELECT FROM job_item AS i JOIN job AS j USING (job_id)
                     WHERE i.analysis_id = u.analysis_id AND j.paused_at IS NULL AND j.cancelled_at IS NULL
                       AND j.shelf_next IS NULL) END""")
# By table, the layers that its rows name. Scores stay where a release has their head (`own_rows`).
_LAYERS: Mapping[str, str] = {
    "face": "SELECT a.finder_id AS layer_id FROM face AS f JOIN analysis AS a USING (analysis_id)",
    "face_embedding": "SELECT trunk_id AS layer_id FROM face_embedding",
    "appearance": "SELECT trunk_id AS layer_id FROM appearance",
    "person_embedding": "SELECT trunk_id AS layer_id FROM person_embedding",
    "person_total": "SELECT trunk_id AS layer_id FROM person_total",
    "prediction": f"""
        SELECT p.reading_id AS layer_id FROM prediction AS p JOIN layer AS l ON l.layer_id = p.reading_id
        WHERE p.scores IS NULL OR l.parent_id NOT IN ({_NAMED})""",  # noqa: S608 - a constant
    "appearance_prediction": "SELECT reading_id AS layer_id FROM appearance_prediction",
    "person_reading": "SELECT reading_id AS layer_id FROM person_reading",
}
_STRAY = """
    SELECT layer_id, count(*) AS rows FROM ({rows}) AS found
    WHERE layer_id NOT IN ({named}) GROUP BY layer_id ORDER BY layer_id"""
# By table, its rows whose layer does not follow from that of their face or appearance.
_CROSSED: Mapping[str, str] = {
    "face_embedding": """
        SELECT count(*) FROM face_embedding AS e JOIN layer AS t ON t.layer_id = e.trunk_id
        JOIN face AS f USING (face_id) JOIN analysis AS a USING (analysis_id) WHERE t.parent_id <> a.finder_id""",
    "appearance": """
        SELECT count(*) FROM appearance AS s JOIN layer AS t ON t.layer_id = s.trunk_id
        JOIN analysis AS a USING (analysis_id) WHERE t.parent_id <> a.finder_id""",
    "prediction": """
        SELECT count(*) FROM prediction AS p JOIN layer AS r ON r.layer_id = p.reading_id
        JOIN layer AS h ON h.layer_id = r.parent_id JOIN layer AS t ON t.layer_id = h.parent_id
        JOIN face AS f USING (face_id) JOIN analysis AS a USING (analysis_id) WHERE t.parent_id <> a.finder_id""",
    "appearance_prediction": """
        SELECT count(*) FROM appearance_prediction AS q JOIN layer AS r ON r.layer_id = q.reading_id
        JOIN layer AS h ON h.layer_id = r.parent_id
        JOIN appearance AS s USING (appearance_id) WHERE h.parent_id <> s.trunk_id""",
}


def find_contradictions(session: Session, store: ReleaseStore) -> list[str]:
    """Return the contradictions, a sentence each; all rows and the bytes of all releases are read.

    Raises:
        RetryableError: the release store is unreachable.
    """
    present = store.names()  # before the rows: a release is copied to the store before it is registered
    found = [*check_choices(session), *_stray_rows(session), *_totals(session), *_damaged(session, store)]
    found += _unregistered(session, present)
    if count := session.execute(_SHELVED).scalar_one():
        found.append(f"{count:,} units are shelved, and a job that is not paused waits for them; pause and resume it")
    return found


def check_choices(session: Session) -> Iterator[str]:
    """Yield contradictions between the rows of releases alone, which takes milliseconds."""
    found = session.execute(_ACTIVE).one()
    if found.releases and found.active != 1:
        yield f"{found.active} releases are active, expected 1; run `facet releases activate` with one of them"
    if found.retired:
        yield f"release {', '.join(found.retired)} is active, and was retired; activate another one"
    for statement in _CHOICES:
        yield from session.scalars(text(statement))


def _stray_rows(session: Session) -> Iterator[str]:
    for table, rows in _LAYERS.items():
        for row in session.execute(text(_STRAY.format(rows=rows, named=_NAMED))):
            yield f"{row.rows:,} rows of {table} have layer {row.layer_id}, which no release has"
    for table, statement in _CROSSED.items():
        if count := session.execute(text(statement)).scalar_one():
            yield f"{count:,} rows of {table} have a layer that does not belong to that of their face or appearance"


def _totals(session: Session) -> Iterator[str]:
    """Compare the totals of people under all trunks and readings with a recount."""
    for one in find_differences(session, limit=MAX_PEOPLE):
        yield f"totals of person {one.person_id} differ from a recount: stored {one.kept}, counted {one.counted}"


def _damaged(session: Session, store: ReleaseStore) -> Iterator[str]:
    """Read every byte of the registered releases."""
    for one in read_stored(session):
        name, release = one.store_name, f"{one.name} ({one.release_id})"
        try:
            store.verify(name)
        except RetryableError:
            raise
        except FacetError as err:
            yield f"release {release}: {err}"


def _unregistered(session: Session, present: Collection[str]) -> Iterator[str]:
    """Name the releases of the store that are not registered, of those that were there when the check began.

    One that was registered since then is not in the rows that this session sees; another transaction sees it.
    """
    strange = set(present) - _registered(session)
    if strange:
        with Session(session.get_bind()) as later:
            strange -= _registered(later)
    for name in sorted(strange):
        yield f"the release store has {name[:12]}, which is not registered or was retired"


def _registered(session: Session) -> set[str]:
    """Return the names that the store may have: of releases that are not retired, or whose files are being removed."""
    going = session.scalars(text("SELECT release_id FROM release WHERE (retirement ->> 'step') <> 'done'"))
    return {one.store_name for one in read_stored(session)} | {store_name_of(session, one) for one in going}
