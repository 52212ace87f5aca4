"""Failures of identification by trunk, and an index of suspects that rest.

Two trunks of one finder share an analysis, so failed attempts at identifying belong to both. Those that were counted
before go to the trunks under which the analysis has appearances without a person. A suspect rests as long as its
`not_before` is set, and the index that leases read has only those that do not rest. Workers of the version before have
to be stopped, as for 0017: they lease suspects without clearing that column.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE facet.identify_failure (
    analysis_id BIGINT NOT NULL,
    trunk_id SMALLINT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    CONSTRAINT pk_identify_failure PRIMARY KEY (analysis_id, trunk_id),
    CONSTRAINT fk_identify_failure_analysis_id_analysis FOREIGN KEY (analysis_id)
        REFERENCES facet.analysis (analysis_id) ON DELETE CASCADE,
    CONSTRAINT fk_identify_failure_trunk_id_layer FOREIGN KEY (trunk_id) REFERENCES facet.layer (layer_id)
);
CREATE INDEX ix_identify_failure_trunk_id ON facet.identify_failure (trunk_id);
INSERT INTO facet.identify_failure (analysis_id, trunk_id, attempts, error)
SELECT a.analysis_id, t.layer_id, a.identify_attempts, coalesce(a.identify_error, 'unknown')
FROM facet.analysis a JOIN facet.layer t ON t.parent_id = a.finder_id AND t.kind = 'trunk'
WHERE a.identify_attempts > 0 AND EXISTS (
    SELECT FROM facet.appearance s WHERE s.analysis_id = a.analysis_id AND s.trunk_id = t.layer_id
      AND s.person_id IS NULL AND s.embedding IS NOT NULL);
DROP INDEX facet.ix_analysis_unidentified;
ALTER TABLE facet.analysis DROP COLUMN identify_attempts, DROP COLUMN identify_error;
UPDATE facet.unit SET not_before = NULL WHERE state = 'leased' AND not_before IS NOT NULL;
ALTER TABLE facet.unit ADD CONSTRAINT ck_unit_rest CHECK (state <> 'leased' OR not_before IS NULL);
DROP INDEX facet.ix_unit_tried;
CREATE INDEX ix_unit_tried ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND attempts > 0 AND not_before IS NULL;
CREATE INDEX ix_unit_resting ON facet.unit (release_id, not_before)
    WHERE state = 'pending' AND attempts > 0 AND stage <> 'reprocess' AND not_before IS NOT NULL;
"""

DOWN = """
DROP INDEX facet.ix_unit_resting, facet.ix_unit_tried;
CREATE INDEX ix_unit_tried ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND attempts > 0;
ALTER TABLE facet.unit DROP CONSTRAINT ck_unit_rest;
ALTER TABLE facet.analysis ADD COLUMN identify_attempts INTEGER DEFAULT 0 NOT NULL, ADD COLUMN identify_error TEXT;
CREATE INDEX ix_analysis_unidentified ON facet.analysis (finder_id) WHERE identify_attempts > 0;
UPDATE facet.analysis a SET identify_attempts = i.attempts, identify_error = i.error
FROM (SELECT DISTINCT ON (analysis_id) * FROM facet.identify_failure ORDER BY analysis_id, attempts DESC) i
WHERE i.analysis_id = a.analysis_id;
DROP TABLE facet.identify_failure;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
