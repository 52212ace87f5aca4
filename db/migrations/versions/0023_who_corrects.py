"""Corrections name the user who made and undid them; answers about merge candidates are kept."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.correction
    ADD COLUMN made_by TEXT,
    ADD COLUMN undone_by TEXT;

CREATE TABLE facet.pair_answer (
    first_person_id BIGINT NOT NULL,
    second_person_id BIGINT NOT NULL,
    answer TEXT NOT NULL,
    correction_id BIGINT,
    made_by TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_pair_answer PRIMARY KEY (first_person_id, second_person_id),
    CONSTRAINT ck_pair_answer_order CHECK (first_person_id < second_person_id),
    CONSTRAINT ck_pair_answer_answer CHECK (answer IN ('same', 'different', 'skipped')),
    CONSTRAINT ck_pair_answer_correction CHECK ((answer = 'skipped') = (correction_id IS NULL)),
    CONSTRAINT fk_pair_answer_first_person_id_person FOREIGN KEY(first_person_id)
        REFERENCES facet.person (person_id) ON DELETE CASCADE,
    CONSTRAINT fk_pair_answer_second_person_id_person FOREIGN KEY(second_person_id)
        REFERENCES facet.person (person_id) ON DELETE CASCADE,
    CONSTRAINT fk_pair_answer_correction_id_correction FOREIGN KEY(correction_id)
        REFERENCES facet.correction (correction_id) ON DELETE CASCADE
);
CREATE INDEX ix_pair_answer_second_person_id ON facet.pair_answer (second_person_id);
CREATE INDEX ix_pair_answer_correction_id ON facet.pair_answer (correction_id);
"""

DOWN = """
DROP TABLE facet.pair_answer;
ALTER TABLE facet.correction
    DROP COLUMN made_by,
    DROP COLUMN undone_by;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
