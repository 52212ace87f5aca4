"""Search on a real PostgreSQL: the same as numpy finds, filtered in SQL, with and without the index, read-only."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from sqlalchemy import text

from db.bulk.rows import copy_rows
from db.engine import make_engine, session_factory
from db.errors import QueryError
from db.schema import search_index as nearest
from worker.errors import UsageError
from worker.identity.search.likeness import SFACE
from worker.identity.search.searcher import Probe, Searcher, SearchOptions
from worker.types import MIN_WEIGHT

PEOPLE, FILES = 30, 150
STRANGERS = 10  # appearances without a person
COLUMNS = (
    "appearance_id", "analysis_id", "media_id", "trunk_id", "ordinal", "start_seconds", "end_seconds", "face_count",
    "quality", "embedding", "person_id",
)  # fmt: skip


def made(seed=3):
    """Appearances: one to seven of each person, of varying quality, one in each file."""
    rng = np.random.default_rng(seed)
    person = np.sort(rng.integers(0, PEOPLE, FILES)) + 1
    person[-STRANGERS:] = 0
    centres = rng.standard_normal((PEOPLE + 1, 128))
    embeddings = centres[person] + 0.9 * rng.standard_normal((FILES, 128))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return types.SimpleNamespace(
        person=person,
        full=embeddings,
        embeddings=embeddings.astype(np.float16).astype(np.float32),  # as they are stored
        quality=rng.uniform(0.05, 1.0, FILES).astype(np.float32),
        ids=np.arange(1, FILES + 1),
        centres=centres,
    )


@pytest.fixture(scope="module")
def url(database_url):
    engine = make_engine(database_url)
    with session_factory(engine).begin() as session:
        from db.base import Base

        tables = ", ".join(str(table) for table in Base.metadata.sorted_tables)
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        fill(session)
    engine.dispose()
    yield database_url
    nearest.drop_index(database_url)


def fill(session):
    manifest = json.dumps({"files": {"trunk.safetensors": SFACE.trunk_sha256}, "branches": []})
    session.execute(
        text("""INSERT INTO layer (layer_id, kind, fingerprint, parent_id)
                VALUES (1, 'finder', 'f', NULL), (2, 'trunk', 't', 1)""")
    )
    session.execute(
        text("""INSERT INTO release (fingerprint, name, weights_sha256, code_version, active, metrics, manifest,
                                     finder_id, trunk_id)
                VALUES ('f', 'test', repeat('0', 64), '0', true, '{}', cast(:manifest AS jsonb), 1, 2)"""),
        {"manifest": manifest},
    )
    session.execute(
        text("""INSERT INTO media_file (sha256, uri, location, kind)
                SELECT lpad(to_hex(n), 64, '0'), '/archive/' || n, '-', (ARRAY['video', 'image'])[n % 2 + 1]
                FROM generate_series(1, :files) n"""),
        {"files": FILES},
    )
    session.execute(
        text("""INSERT INTO analysis (media_id, finder_id, sampling, state, is_current, finished_at)
                SELECT n, 1, '2/s', 'done', true, now() FROM generate_series(1, :files) n"""),
        {"files": FILES},
    )
    session.execute(
        text("""INSERT INTO person (name)
                SELECT CASE WHEN n = 5 THEN 'Ada' END FROM generate_series(1, :people) n"""),
        {"people": PEOPLE},
    )
    archive = made()
    rows = (
        (n, n, n, 2, 0, float(n), n + 1.0, 1, float(archive.quality[n - 1]), archive.embeddings[n - 1], person or None)
        for n, person in zip(archive.ids.tolist(), archive.person.tolist(), strict=True)
    )
    copy_rows(session, "appearance", COLUMNS, rows)


def probe_of(archive, person, seed=9):
    vector = archive.centres[person] + 0.9 * np.random.default_rng(seed).standard_normal(128)
    return Probe(embedding=(vector / np.linalg.norm(vector)).astype(np.float32), quality=0.7)


def mean_cosines(archive, probe, rows):
    """Cosine of the probe to the quality-weighted mean of each person, by numpy."""
    cosines = {}
    for person in set(archive.person[rows].tolist()) - {0}:
        member = archive.person == person
        total = np.maximum(archive.quality[member], MIN_WEIGHT) @ archive.embeddings[member].astype(np.float64)
        cosines[person] = float(total @ probe.embedding / np.linalg.norm(total))
    return cosines


def test_the_exact_search_agrees_with_numpy(url):
    archive = made()
    probe = probe_of(archive, 5)
    found = Searcher(url).search(probe, SearchOptions(limit=12, exact=True))
    cosines = archive.embeddings @ probe.embedding
    nearest_ids = archive.ids[np.argsort(-cosines)[:12]]
    assert [hit.appearance_id for hit in found.appearances] == nearest_ids.tolist()
    assert [hit.similarity for hit in found.appearances] == pytest.approx(np.sort(cosines)[::-1][:12], abs=1e-5)
    of_people = mean_cosines(archive, probe, slice(None))
    ranked = sorted(of_people, key=lambda person: -of_people[person])[:12]
    assert [hit.person_id for hit in found.people] == ranked
    assert [hit.similarity for hit in found.people] == pytest.approx([of_people[p] for p in ranked], abs=1e-5)


def test_a_person_is_introduced_and_the_right_one_is_probable(url):
    found = Searcher(url).search(probe_of(made(), 5))
    best = found.people[0]
    assert (best.person_id, best.name) == (5, "Ada")
    assert best.appearance_count == best.media_count == (made().person == 5).sum()
    assert best.probability > 0.9
    assert found.people[1].probability < 0.01
    assert found.people_searched == len(set(made().person.tolist())) - 1
    assert found.exact


@pytest.mark.parametrize("indexed", [False, True])
def test_a_filter_is_sql_over_appearances_and_media(url, indexed):
    if indexed:
        nearest.build_index(url)
    where = "kind = 'video' AND start_seconds > 60 AND uri LIKE '/archive/%' -- and no more"
    archive = made()
    probe = probe_of(archive, 20)
    found = Searcher(url).search(probe, SearchOptions(limit=5, where=where, exact=not indexed))
    rows = np.flatnonzero((archive.ids % 2 == 0) & (archive.ids > 60))
    best = rows[np.argsort(-(archive.embeddings[rows] @ probe.embedding))[:5]]
    assert [hit.appearance_id for hit in found.appearances] == archive.ids[best].tolist()
    of_people = mean_cosines(archive, probe, rows)  # one passing appearance lets a person in, as a whole
    assert found.people[0].person_id == max(of_people, key=of_people.__getitem__)
    assert found.people[0].similarity == pytest.approx(max(of_people.values()), abs=1e-5)


def test_the_index_finds_the_same_in_a_small_archive(url):
    nearest.build_index(url)
    nearest.build_index(url)  # a second time does nothing
    searcher, archive = Searcher(url), made()
    for person in (2, 9, 17):
        by_index = searcher.search(probe_of(archive, person))
        one_by_one = searcher.search(probe_of(archive, person), SearchOptions(exact=True))
        assert (by_index.exact, one_by_one.exact) == (False, True)
        assert [h.appearance_id for h in by_index.appearances] == [h.appearance_id for h in one_by_one.appearances]
        assert [h.person_id for h in by_index.people[:5]] == [h.person_id for h in one_by_one.people[:5]]
        assert by_index.prior == one_by_one.prior


def test_with_the_index_people_are_counted_not_their_numbers(url):
    """Numbers have gaps, wherever people were merged or erased."""
    nearest.build_index(url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO person (person_id) VALUES (9000)"))
        connection.execute(text("UPDATE appearance SET person_id = 9000 WHERE appearance_id = :id"), {"id": FILES})
    try:
        searcher, probe = Searcher(url), probe_of(made(), 5)
        by_index, one_by_one = searcher.search(probe), searcher.search(probe, SearchOptions(exact=True))
        assert by_index.people_searched == one_by_one.people_searched == len(set(made().person.tolist()))
        assert searcher.search(searcher.person(5)).people_searched == by_index.people_searched - 1
    finally:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM person WHERE person_id = 9000"))
        engine.dispose()


def test_stored_embeddings_change_no_cosine_by_a_thousandth(url):
    archive = made()
    probe = probe_of(archive, 5)
    found = Searcher(url).search(probe, SearchOptions(limit=FILES, exact=True))
    exact = archive.full @ probe.embedding
    assert [hit.similarity for hit in found.appearances] == pytest.approx(
        [exact[hit.appearance_id - 1] for hit in found.appearances], abs=1e-3
    )


def test_the_index_is_really_used(url):
    from worker.identity.search.searcher import _APPEARANCES, _SEARCHED, INDEX_SETTINGS, _parameters

    nearest.build_index(url)
    query = _SEARCHED + _APPEARANCES.format(where="kind = 'video'", exactly="", limit=400)
    rows = Searcher(url)._query("EXPLAIN " + query, _parameters(probe_of(made(), 3)), INDEX_SETTINGS)
    assert any(nearest.INDEX in row["QUERY PLAN"] for row in rows)


def test_a_person_of_the_archive_is_not_found_as_himself(url):
    searcher, archive = Searcher(url), made()
    probe = searcher.person(9)
    member = archive.person == 9
    weights = np.maximum(archive.quality[member], MIN_WEIGHT)
    total = weights @ archive.embeddings[member].astype(np.float64)
    assert probe.embedding == pytest.approx(total / np.linalg.norm(total), abs=1e-6)
    assert probe.agreement == pytest.approx(np.linalg.norm(total) / weights.sum(), abs=1e-6)
    found = searcher.search(probe, SearchOptions(exact=True))
    assert 9 not in {hit.person_id for hit in found.people}
    assert not {hit.appearance_id for hit in found.appearances} & set(archive.ids[member].tolist())


def test_an_appearance_is_compared_with_the_rest_of_its_person(url):
    searcher, archive = Searcher(url), made()
    row = int(np.flatnonzero(archive.person == 5)[0])
    found = searcher.search(searcher.appearance(row + 1), SearchOptions(exact=True))
    assert found.people[0].person_id == 5
    assert row + 1 not in {hit.appearance_id for hit in found.appearances}
    assert found.people[0].similarity < 0.999


def test_an_appearance_without_a_person_is_found(url):
    searcher = Searcher(url)
    found = searcher.search(searcher.appearance(FILES), SearchOptions(limit=STRANGERS - 1, exact=True))
    assert None in {hit.person_id for hit in found.appearances}


def test_a_stated_prior_is_used(url):
    searcher, probe = Searcher(url), probe_of(made(), 5)
    sure, unsure = (searcher.search(probe, SearchOptions(prior=prior)) for prior in (0.5, 1e-9))
    assert (sure.prior, unsure.prior) == (0.5, 1e-9)
    assert sure.people[0].probability > unsure.people[0].probability


@pytest.mark.parametrize(
    "where",
    [
        "no_such_column > 1",
        "kind = 'video",
        "true) UNION SELECT 1 --",
        "true; DELETE FROM appearance",
        "(SELECT count(*) FROM person) > 0",
        "pg_sleep(9) IS NULL",
        "set_config('role', 'postgres', false) = ''",
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_a_filter_that_is_none_is_one_line_and_does_no_harm(url, where, exact):
    nearest.build_index(url)
    with pytest.raises(QueryError) as refused:
        Searcher(url).search(probe_of(made(), 5), SearchOptions(where=where, exact=exact))
    assert "\n" not in str(refused.value)
    assert "expected a condition" in str(refused.value)
    assert len(Searcher(url)._query("SELECT appearance_id FROM appearances")) == FILES


def test_without_a_calibration_for_the_release_there_is_no_probability(url):
    engine = make_engine(url)
    try:
        set_trunk(engine, "another")
        found = Searcher(url).search(probe_of(made(), 5))
        assert {hit.probability for hit in (*found.people, *found.appearances)} == {None}
    finally:
        set_trunk(engine, SFACE.trunk_sha256)
        engine.dispose()


def set_trunk(engine, sha256):
    with engine.begin() as connection:
        manifest = json.dumps({"files": {"trunk.safetensors": sha256}, "branches": []})
        connection.execute(text("UPDATE release SET manifest = cast(:manifest AS jsonb)"), {"manifest": manifest})


@pytest.mark.parametrize("ask", [lambda s: s.person(999), lambda s: s.appearance(999)])
def test_a_probe_that_does_not_exist_is_refused(url, ask):
    with pytest.raises(UsageError, match="999"):
        ask(Searcher(url))
