"""The order of migration 0017, forth and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.migrations.to_layers import tables
from db.migrations.to_layers.releases import store_layers
from db.migrations.to_layers.results import copy_results
from db.migrations.to_layers.triggers import DROP, NEW

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The old tables move aside with their keys and sequences, so that the new ones can have their names.
ASIDE = """
SET CONSTRAINTS ALL IMMEDIATE;
CREATE SCHEMA facet_0016;
ALTER TABLE facet.regroup_change DROP CONSTRAINT fk_regroup_change_appearance_id_appearance;
ALTER TABLE facet.face SET SCHEMA facet_0016;
ALTER TABLE facet.prediction SET SCHEMA facet_0016;
ALTER TABLE facet.appearance SET SCHEMA facet_0016;
DROP TABLE facet.person_total, facet.person_change;
"""

RELEASES = """
ALTER TABLE facet.release
    ADD COLUMN alias TEXT,
    ADD COLUMN finder_id SMALLINT,
    ADD COLUMN trunk_id SMALLINT,
    ADD COLUMN retired_at TIMESTAMP WITH TIME ZONE;
"""

RELEASE_KEYS = """
ALTER TABLE facet.release
    ALTER COLUMN finder_id SET NOT NULL,
    ALTER COLUMN trunk_id SET NOT NULL,
    ADD CONSTRAINT uq_release_alias UNIQUE (alias),
    ADD CONSTRAINT fk_release_finder_id_layer FOREIGN KEY (finder_id) REFERENCES facet.layer (layer_id),
    ADD CONSTRAINT fk_release_trunk_id_layer FOREIGN KEY (trunk_id) REFERENCES facet.layer (layer_id);

INSERT INTO facet.trunk_state (trunk_id, people_erased, identifying)
SELECT DISTINCT ON (trunk_id) trunk_id, max(people_erased) OVER (PARTITION BY trunk_id), identifying
FROM facet.release
ORDER BY trunk_id, identifying NULLS LAST;
ALTER TABLE facet.release DROP COLUMN people_erased, DROP COLUMN identifying;
"""

LEDGER = """
ALTER TABLE facet.analysis ADD COLUMN finder_id SMALLINT;
UPDATE facet.analysis AS a SET finder_id = r.finder_id FROM facet.release AS r WHERE r.release_id = a.release_id;

ALTER TABLE facet.unit
    DROP CONSTRAINT fk_unit_analysis_id_release_id_analysis,
    ADD CONSTRAINT fk_unit_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id),
    ADD CONSTRAINT fk_unit_analysis_id_analysis FOREIGN KEY (analysis_id)
        REFERENCES facet.analysis (analysis_id) ON DELETE CASCADE;

ALTER TABLE facet.analysis
    DROP COLUMN release_id CASCADE,
    ALTER COLUMN finder_id SET NOT NULL,
    ADD CONSTRAINT uq_analysis_media_id_finder_id_sampling UNIQUE (media_id, finder_id, sampling),
    ADD CONSTRAINT uq_analysis_analysis_id_media_id UNIQUE (analysis_id, media_id),
    ADD CONSTRAINT fk_analysis_finder_id_layer FOREIGN KEY (finder_id) REFERENCES facet.layer (layer_id);
CREATE INDEX ix_analysis_finder_id ON facet.analysis (finder_id);
CREATE UNIQUE INDEX uq_analysis_current ON facet.analysis (media_id, finder_id) WHERE is_current;
CREATE INDEX ix_analysis_superseded ON facet.analysis (finder_id)
    WHERE state = 'done' AND NOT is_current AND NOT retired;
CREATE INDEX ix_analysis_unidentified ON facet.analysis (finder_id) WHERE identify_attempts > 0;
"""

PEOPLE = """
INSERT INTO facet.person_embedding (person_id, trunk_id, embedding_sum, embedding_weight, is_good, revision)
SELECT p.person_id, r.trunk_id, p.embedding_sum, p.embedding_weight, p.is_good, p.revision
FROM facet.person AS p
JOIN facet.release AS r USING (release_id);

ALTER TABLE facet.person_alike ADD COLUMN trunk_id SMALLINT;
UPDATE facet.person_alike AS k
SET trunk_id = r.trunk_id
FROM facet.person AS p
JOIN facet.release AS r USING (release_id)
WHERE p.person_id = k.first_person_id;
ALTER TABLE facet.person_alike
    DROP CONSTRAINT pk_person_alike,
    ALTER COLUMN trunk_id SET NOT NULL,
    ADD CONSTRAINT pk_person_alike PRIMARY KEY (first_person_id, second_person_id, trunk_id),
    ADD CONSTRAINT fk_person_alike_trunk_id_layer FOREIGN KEY (trunk_id) REFERENCES facet.layer (layer_id);

ALTER TABLE facet.regroup_proposal ADD COLUMN trunk_id SMALLINT;
UPDATE facet.regroup_proposal AS p SET trunk_id = r.trunk_id FROM facet.release AS r WHERE r.release_id = p.release_id;
ALTER TABLE facet.regroup_proposal
    DROP COLUMN release_id,
    ALTER COLUMN trunk_id SET NOT NULL,
    ADD CONSTRAINT fk_regroup_proposal_trunk_id_layer FOREIGN KEY (trunk_id) REFERENCES facet.layer (layer_id);
-- Releases without analyses may share a trunk: one proposal of it is open.
UPDATE facet.regroup_proposal AS p
SET state = 'discarded', settled_at = now()
WHERE state = 'open' AND EXISTS (
    SELECT FROM facet.regroup_proposal AS n
    WHERE n.trunk_id = p.trunk_id AND n.state = 'open' AND n.proposal_id > p.proposal_id
);
CREATE UNIQUE INDEX uq_regroup_proposal_open ON facet.regroup_proposal (trunk_id) WHERE state = 'open';

ALTER TABLE facet.person
    DROP COLUMN release_id, DROP COLUMN embedding_sum, DROP COLUMN embedding_weight, DROP COLUMN is_good,
    DROP COLUMN revision;
CREATE INDEX ix_person_named ON facet.person (person_id) WHERE name IS NOT NULL;
"""

# New rows get numbers that no old row had, also not one that was deleted.
IDS = """
SELECT setval('facet.face_face_id_seq', nextval('facet_0016.face_face_id_seq'), false),
       setval('facet.appearance_appearance_id_seq', nextval('facet_0016.appearance_appearance_id_seq'), false);
"""

ENDS = """
ALTER TABLE facet.regroup_change
    ADD CONSTRAINT fk_regroup_change_appearance_id_appearance FOREIGN KEY (appearance_id)
        REFERENCES facet.appearance (appearance_id) ON DELETE CASCADE;
"""

COUNT_ALL = (
    "INSERT INTO facet.person_change (person_id, trunk_id) SELECT person_id, trunk_id FROM facet.person_embedding"
)


def to_layers(connection: Connection) -> None:
    """Replace rows named by releases by rows named by layers.

    Args:
        connection: an open connection; the caller commits.
    """
    for statements in (DROP, ASIDE, tables.SMALL_TABLES, RELEASES):
        connection.exec_driver_sql(statements)
    store_layers(connection)
    for statements in (RELEASE_KEYS, LEDGER, PEOPLE, tables.RESULTS):
        connection.exec_driver_sql(statements)
    copy_results(connection)
    for statements in (*tables.KEYS.split(";"), *tables.FOREIGN_KEYS.split(";"), IDS, ENDS, NEW):
        if statements.strip():
            connection.exec_driver_sql(statements)
    connection.exec_driver_sql(COUNT_ALL)
    connection.exec_driver_sql("DROP SCHEMA facet_0016 CASCADE")
