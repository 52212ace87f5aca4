"""The way back from migration 0017: the tables as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.migrations.to_layers import old_tables
from db.migrations.to_layers.triggers import DROP, OLD

if TYPE_CHECKING:
    from sqlalchemy import Connection

ASIDE = """
SET CONSTRAINTS ALL IMMEDIATE;
CREATE SCHEMA facet_0017;
ALTER TABLE facet.regroup_change DROP CONSTRAINT fk_regroup_change_appearance_id_appearance;
ALTER TABLE facet.face SET SCHEMA facet_0017;
ALTER TABLE facet.crop_strip SET SCHEMA facet_0017;
ALTER TABLE facet.face_embedding SET SCHEMA facet_0017;
ALTER TABLE facet.prediction SET SCHEMA facet_0017;
ALTER TABLE facet.appearance SET SCHEMA facet_0017;
ALTER TABLE facet.appearance_prediction SET SCHEMA facet_0017;
DROP TABLE facet.person_total, facet.person_reading, facet.person_change;
"""

LEDGER = """
ALTER TABLE facet.release ADD COLUMN people_erased BIGINT DEFAULT 0 NOT NULL, ADD COLUMN identifying BIGINT[];
UPDATE facet.release AS r
SET people_erased = t.people_erased, identifying = t.identifying
FROM facet.trunk_state AS t
WHERE t.trunk_id = r.trunk_id;

-- Each finder and each trunk gets one release: the active one if it has it, else the newest.
CREATE TEMPORARY TABLE owner ON COMMIT DROP AS
SELECT DISTINCT ON (finder_id) finder_id, release_id, trunk_id
FROM facet.release
ORDER BY finder_id, active DESC, release_id DESC;

ALTER TABLE facet.unit DROP CONSTRAINT fk_unit_analysis_id_analysis, DROP CONSTRAINT fk_unit_release_id_release;
ALTER TABLE facet.analysis ADD COLUMN release_id BIGINT;
UPDATE facet.analysis AS a SET release_id = o.release_id FROM owner AS o WHERE o.finder_id = a.finder_id;
UPDATE facet.unit AS u SET release_id = a.release_id FROM facet.analysis AS a WHERE a.analysis_id = u.analysis_id;
ALTER TABLE facet.analysis
    DROP CONSTRAINT uq_analysis_analysis_id_media_id CASCADE,
    DROP COLUMN finder_id CASCADE,
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT uq_analysis_media_id_release_id_sampling UNIQUE (media_id, release_id, sampling),
    ADD CONSTRAINT uq_analysis_analysis_id_media_id_release_id UNIQUE (analysis_id, media_id, release_id),
    ADD CONSTRAINT uq_analysis_analysis_id_release_id UNIQUE (analysis_id, release_id),
    ADD CONSTRAINT fk_analysis_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id);
CREATE INDEX ix_analysis_release_id ON facet.analysis (release_id);
CREATE UNIQUE INDEX uq_analysis_current ON facet.analysis (media_id, release_id) WHERE is_current;
CREATE INDEX ix_analysis_superseded ON facet.analysis (release_id)
    WHERE state = 'done' AND NOT is_current AND NOT retired;
CREATE INDEX ix_analysis_unidentified ON facet.analysis (release_id) WHERE identify_attempts > 0;
ALTER TABLE facet.unit ADD CONSTRAINT fk_unit_analysis_id_release_id_analysis FOREIGN KEY (analysis_id, release_id)
    REFERENCES facet.analysis (analysis_id, release_id) ON DELETE CASCADE;
"""

PEOPLE = """
ALTER TABLE facet.person
    ADD COLUMN release_id BIGINT,
    ADD COLUMN embedding_sum VECTOR(128),
    ADD COLUMN embedding_weight REAL DEFAULT 0 NOT NULL,
    ADD COLUMN is_good BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN revision BIGINT DEFAULT 0 NOT NULL;
UPDATE facet.person AS p
SET release_id = e.release_id, embedding_sum = e.embedding_sum, embedding_weight = e.embedding_weight,
    is_good = e.is_good, revision = e.revision
FROM (
    SELECT DISTINCT ON (n.person_id) n.*, o.release_id
    FROM facet.person_embedding AS n
    JOIN owner AS o USING (trunk_id)
    JOIN facet.release AS r ON r.release_id = o.release_id
    ORDER BY n.person_id, r.active DESC, o.release_id DESC
) AS e
WHERE e.person_id = p.person_id;
-- People of a trunk that no release shows any more.
DELETE FROM facet.person WHERE release_id IS NULL;
ALTER TABLE facet.person
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT fk_person_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id);
DROP INDEX facet.ix_person_named;
CREATE INDEX ix_person_release_id ON facet.person (release_id);
CREATE INDEX ix_person_revision ON facet.person (release_id, revision);
CREATE INDEX ix_person_named ON facet.person (release_id) WHERE name IS NOT NULL;

DELETE FROM facet.person_alike AS k
USING facet.person AS p
WHERE p.person_id = k.first_person_id AND NOT EXISTS (
    SELECT FROM owner AS o WHERE o.release_id = p.release_id AND o.trunk_id = k.trunk_id
);
ALTER TABLE facet.person_alike
    DROP COLUMN trunk_id,
    ADD CONSTRAINT pk_person_alike PRIMARY KEY (first_person_id, second_person_id);

ALTER TABLE facet.regroup_proposal ADD COLUMN release_id BIGINT;
UPDATE facet.regroup_proposal AS p SET release_id = o.release_id FROM owner AS o WHERE o.trunk_id = p.trunk_id;
DELETE FROM facet.regroup_proposal WHERE release_id IS NULL;
ALTER TABLE facet.regroup_proposal
    DROP COLUMN trunk_id,
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT fk_regroup_proposal_release_id_release FOREIGN KEY (release_id)
        REFERENCES facet.release (release_id);
CREATE UNIQUE INDEX uq_regroup_proposal_open ON facet.regroup_proposal (release_id) WHERE state = 'open';
"""

ENDS = """
DELETE FROM facet.regroup_change AS c
WHERE NOT EXISTS (SELECT FROM facet.appearance AS p WHERE p.appearance_id = c.appearance_id);
ALTER TABLE facet.regroup_change
    ADD CONSTRAINT fk_regroup_change_appearance_id_appearance FOREIGN KEY (appearance_id)
        REFERENCES facet.appearance (appearance_id) ON DELETE CASCADE;
DROP SCHEMA facet_0017 CASCADE;
ALTER TABLE facet.release
    DROP COLUMN alias, DROP COLUMN finder_id, DROP COLUMN trunk_id, DROP COLUMN retired_at;
DROP TABLE facet.release_history, facet.release_reading, facet.trunk_state, facet.person_embedding, facet.layer;
INSERT INTO facet.person_change (person_id) SELECT person_id FROM facet.person;
"""


def to_releases(connection: Connection) -> None:
    """Replace rows named by layers by rows named by releases.

    Args:
        connection: an open connection; the caller commits.
    """
    for statements in (
        DROP, ASIDE, LEDGER, PEOPLE, old_tables.RESULTS, old_tables.KEYS, old_tables.FOREIGN_KEYS, ENDS, OLD,
    ):  # fmt: skip
        connection.exec_driver_sql(statements)
