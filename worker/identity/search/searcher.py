"""Search: the people and appearances nearest to a probe, each with the probability to be the same person.

All queries run as those of `facet sql`: read-only, one at a time, under the role that may read the views and nothing
else. So a user's filter can do no harm. The probe is compared with each appearance, or, where the archive has an index
of them (`facet db index`), with those that the index finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from db.reader.run_query import run_query
from db.schema.search_index import INDEX_READY
from worker.errors import UsageError
from worker.identity.search.condition import MEDIA_COLUMNS, condition_text, filter_explained
from worker.identity.search.likeness import SFACE, Comparisons, prior_of, probability
from worker.types import MIN_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TRUNK_FILE = "trunk.safetensors"
NEAREST_FOR_PEOPLE = 400  # appearances whose people are compared when the index is used
INDEX_CANDIDATES = 400  # length of the index's candidate list (hnsw.ef_search): recall, time in docs/measured/search.md
# Memory for the sums of 300,000 people, 0.6 kB each, before PostgreSQL sorts on disk.
EXACT_SETTINGS = {"work_mem": "256MB"}
INDEX_SETTINGS = {
    "hnsw.iterative_scan": "strict_order",  # where a filter keeps few rows, the index searches on
    "hnsw.ef_search": str(INDEX_CANDIDATES),
    "hnsw.max_scan_tuples": "100000",
    "enable_sort": "off",  # a planner without statistics would read all rows and sort them
}

_SEARCHED = f"""
WITH searched AS (
    SELECT a.*, {MEDIA_COLUMNS}
    FROM appearances AS a JOIN media AS m USING (media_id)
    WHERE a.embedding IS NOT NULL AND a.appearance_id IS DISTINCT FROM %(own_appearance)s::bigint
        AND (%(own_person)s::bigint IS NULL OR a.person_id IS DISTINCT FROM %(own_person)s::bigint)
)
"""  # noqa: S608 - constant names
_WEIGHT = f"greatest(quality, {MIN_WEIGHT})"
_APPEARANCES = """
SELECT appearance_id, person_id, media_id, uri, kind, start_seconds, end_seconds, age, gender, quality,
       -(embedding <#> %(probe)s::vector) AS similarity
FROM searched WHERE (
{where}
) ORDER BY (embedding <#> %(probe)s::vector) {exactly} LIMIT {limit}
"""
_PEOPLE = f"""
SELECT person_id, quality, -(total <#> %(probe)s::vector) / nullif(vector_norm(total), 0) AS similarity,
       vector_norm(total) / weight AS agreement, count(*) OVER () AS people_compared
FROM (
    SELECT person_id, max(quality) AS quality, sum({_WEIGHT}) AS weight,
           sum(embedding * array_fill({_WEIGHT}::real, ARRAY[vector_dims(embedding)])::vector) AS total
    FROM searched
    WHERE person_id IS NOT NULL AND (%(people)s::bigint[] IS NULL OR person_id = ANY(%(people)s::bigint[]))
    GROUP BY person_id HAVING bool_or(
{{where}}
    )
) AS of_person
ORDER BY similarity DESC NULLS LAST, person_id LIMIT {{limit}}
"""  # noqa: S608 - constant expressions
# One look-up for each person.
_DETAILS = """
SELECT p.person_id, p.name, p.appearance_count, p.media_count
FROM unnest(%(people)s::bigint[]) AS wanted (person_id)
CROSS JOIN LATERAL (SELECT * FROM people WHERE people.person_id = wanted.person_id OFFSET 0) AS p
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """The face, appearance or person that is searched for."""

    embedding: NDArray[np.float32]
    """(D,) L2-normalised."""
    quality: float
    """In 0..1: of the face, or the best of the person's appearances."""
    agreement: float = 1.0
    """As in `worker.identity.search.likeness.Comparisons`, of this side alone."""
    person_id: int | None = None
    """The person that the probe is, if any: left out of the result."""
    appearance_id: int | None = None
    """The appearance that the probe is, if any: left out of the result, also of its person's mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Options of a search."""

    limit: int = 10
    """Largest number of people, and of appearances."""
    where: str | None = None
    """SQL condition over the columns of the views ``appearances`` and ``media``. A person passes with one appearance
    that passes, and is compared as a whole."""
    prior: float | None = None
    """Probability that a person of the archive is the probe, before the comparison; None for `prior_of` the number of
    people."""
    exact: bool = False
    """Compare with every appearance, even where there is an index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonHit:
    """A person that resembles the probe."""

    person_id: int
    quality: float
    """Of the best appearance."""
    similarity: float
    """Cosine to the quality-weighted mean of the person's appearances."""
    agreement: float
    """Length of that mean; see `worker.identity.search.likeness.Comparisons`."""
    people_compared: int
    """Number of people that pass the filter and were compared."""
    name: str | None = None
    appearance_count: int = 0
    media_count: int = 0
    probability: float | None = None
    """That it is the same person; None where the release has no calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceHit:
    """An appearance that resembles the probe."""

    appearance_id: int
    person_id: int | None
    media_id: int
    uri: str
    kind: str
    start_seconds: float
    end_seconds: float
    age: float | None
    gender: str | None
    quality: float
    similarity: float
    """Cosine of the embeddings."""
    name: str | None = None
    """Of the person."""
    probability: float | None = None
    """That it is the same person; None where the release has no calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The people and appearances that a search found, the most similar first."""

    people: tuple[PersonHit, ...]
    appearances: tuple[AppearanceHit, ...]
    prior: float
    people_searched: int
    """Number of people that pass the filter; with the index, of all people. The probe does not count."""
    exact: bool
    """Whether the probe was compared with every appearance."""


@dataclass(frozen=True, slots=True)
class _Details:
    """Name and counts of a person."""

    person_id: int
    name: str | None
    appearance_count: int
    media_count: int

    def added_to(self, hit: PersonHit) -> PersonHit:
        return replace(hit, name=self.name, appearance_count=self.appearance_count, media_count=self.media_count)


class Searcher:
    """Searches one archive.

    Args:
        url: address of the database, as the reader or as a user who may become the reader.
        timeout_seconds: longest time of one query.
    """

    def __init__(self, url: str, timeout_seconds: float = 300.0) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds

    def person(self, person_id: int) -> Probe:
        """Return a person of the archive as a probe.

        Raises:
            UsageError: there is no such person.
        """
        rows = self._query(
            "SELECT embedding, quality FROM appearances WHERE person_id = %(id)s AND embedding IS NOT NULL",
            {"id": person_id},
        )
        if not rows:
            raise UsageError(f"there is no person {person_id} with an embedding; see `facet people list`")
        weights = np.maximum([row["quality"] for row in rows], MIN_WEIGHT)
        total = weights @ np.array([row["embedding"] for row in rows], np.float64)
        length = float(np.linalg.norm(total))
        return Probe(
            embedding=(total / max(length, 1e-12)).astype(np.float32),
            quality=max(float(row["quality"]) for row in rows),
            agreement=length / float(weights.sum()),
            person_id=person_id,
        )

    def appearance(self, appearance_id: int) -> Probe:
        """Return an appearance of the archive as a probe.

        Raises:
            UsageError: there is no such appearance, or it has no embedding.
        """
        rows = self._query(
            "SELECT embedding, quality FROM appearances WHERE appearance_id = %(id)s AND embedding IS NOT NULL",
            {"id": appearance_id},
        )
        if not rows:
            raise UsageError(
                f"there is no appearance {appearance_id} with an embedding; see `facet people show PERSON`"
            )
        embedding = np.array(rows[0]["embedding"], np.float32)
        return Probe(embedding=embedding, quality=float(rows[0]["quality"]), appearance_id=appearance_id)

    def trunk_sha256(self) -> str:
        """Return the hash of the weights that made the archive's embeddings.

        Raises:
            UsageError: nothing was analysed yet.
        """
        rows = self._query(
            "SELECT manifest -> 'files' ->> %(file)s AS sha FROM releases WHERE active", {"file": TRUNK_FILE}
        )
        if not rows:
            raise UsageError("nothing was analysed yet, so there is no person to find; run `facet analyze PATH` first")
        return str(rows[0]["sha"])

    def search(self, probe: Probe, options: SearchOptions | None = None) -> SearchResult:
        """Find the people and appearances that are most similar to a probe.

        Raises:
            QueryError: the filter is no condition over the views, or takes too long.
        """
        options = options or SearchOptions()
        indexed = not options.exact and self._has_index()
        with filter_explained(options.where):
            near = self._nearest(probe, options, indexed=indexed)
            people = self._people(probe, options, near if indexed else None)
        near = near[: options.limit]
        count = self._count_people(probe) if indexed else max((hit.people_compared for hit in people), default=0)
        prior = prior_of(count) if options.prior is None else options.prior
        if self.trunk_sha256() == SFACE.trunk_sha256:
            near, people = (
                _appearances_with_probability(probe, near, prior),
                _people_with_probability(probe, people, prior),
            )
        details = self._details([*(hit.person_id for hit in near), *(hit.person_id for hit in people)])
        return SearchResult(
            people=tuple(details[hit.person_id].added_to(hit) for hit in people),
            appearances=tuple(
                hit if hit.person_id is None else replace(hit, name=details[hit.person_id].name) for hit in near
            ),
            prior=prior,
            people_searched=count,
            exact=not indexed,
        )

    def _has_index(self) -> bool:
        return bool(self._query(INDEX_READY)[0]["exists"])

    def _count_people(self, probe: Probe) -> int:
        """Count all people but the probe; with an index, the number that passes a filter is unknown."""
        query = "SELECT count(*) FROM people WHERE person_id IS DISTINCT FROM %(person)s::bigint"
        return int(self._query(query, {"person": probe.person_id})[0]["count"])

    def _nearest(self, probe: Probe, options: SearchOptions, *, indexed: bool) -> list[AppearanceHit]:
        # With "+ 0" the expression is not the one of the index.
        query = _SEARCHED + _APPEARANCES.format(
            where=condition_text(options.where),
            exactly="" if indexed else "+ 0",
            limit=max(options.limit, NEAREST_FOR_PEOPLE) if indexed else options.limit,
        )
        rows = self._query(query, _parameters(probe), INDEX_SETTINGS if indexed else EXACT_SETTINGS)
        return [AppearanceHit(**row) for row in rows]

    def _people(self, probe: Probe, options: SearchOptions, near: Sequence[AppearanceHit] | None) -> list[PersonHit]:
        """Compare with all people, or with those whose appearances the index found."""
        query = _SEARCHED + _PEOPLE.format(where=condition_text(options.where), limit=options.limit)
        ids = None if near is None else sorted({hit.person_id for hit in near if hit.person_id is not None})
        return [PersonHit(**row) for row in self._query(query, _parameters(probe) | {"people": ids}, EXACT_SETTINGS)]

    def _details(self, people: Sequence[int | None]) -> dict[int, _Details]:
        ids = sorted({person for person in people if person is not None})
        found = [_Details(**row) for row in self._query(_DETAILS, {"people": ids})] if ids else []
        return {person.person_id: person for person in found}

    def _query(
        self, query: str, parameters: Mapping[str, object] | None = None, settings: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Run one query; returns its rows by the names of their columns."""
        running = run_query(
            self._url, query, parameters=parameters, timeout_seconds=self._timeout_seconds, settings=settings
        )
        with running as result:
            return [dict(zip(result.columns, row, strict=True)) for row in result]


def _parameters(probe: Probe) -> dict[str, object]:
    vector = "[" + ",".join(f"{part:.8g}" for part in probe.embedding.tolist()) + "]"
    return {"probe": vector, "own_person": probe.person_id, "own_appearance": probe.appearance_id}


def _appearances_with_probability(probe: Probe, hits: list[AppearanceHit], prior: float) -> list[AppearanceHit]:
    chances = _probabilities(probe, hits, np.ones(len(hits)), prior)
    return [replace(hit, probability=chance) for hit, chance in zip(hits, chances, strict=True)]


def _people_with_probability(probe: Probe, hits: list[PersonHit], prior: float) -> list[PersonHit]:
    chances = _probabilities(probe, hits, np.array([hit.agreement for hit in hits], np.float64), prior)
    return [replace(hit, probability=chance) for hit, chance in zip(hits, chances, strict=True)]


def _probabilities(
    probe: Probe, hits: Sequence[PersonHit | AppearanceHit], agreement: NDArray[np.float64], prior: float
) -> list[float]:
    """Return the probability that each of N hits is the probe, of whose sides the (N,) agreement is known."""
    pairs = Comparisons(
        cosine=np.array([hit.similarity for hit in hits], np.float64),
        quality=np.minimum(np.array([hit.quality for hit in hits], np.float64), probe.quality),
        agreement=agreement * probe.agreement,
    )
    return [float(chance) for chance in probability(pairs, prior)]
