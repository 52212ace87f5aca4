"""Erasures that fail: what failed, and when it is tried again, so that one file or store never holds up the others.

Analyses whose crops have to be compared with their rows, and how far the crop store was walked for the same purpose.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE facet.erasure_failure (
    media_id BIGINT NOT NULL,
    attempts INTEGER DEFAULT 1 NOT NULL,
    error TEXT NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    not_before TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_erasure_failure PRIMARY KEY (media_id),
    CONSTRAINT fk_erasure_failure_media_id_media_file FOREIGN KEY (media_id)
        REFERENCES facet.media_file (media_id) ON DELETE CASCADE
);

CREATE TABLE facet.crop_check (
    analysis_id BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_crop_check PRIMARY KEY (analysis_id),
    CONSTRAINT fk_crop_check_analysis_id_analysis FOREIGN KEY (analysis_id)
        REFERENCES facet.analysis (analysis_id) ON DELETE CASCADE
);

CREATE TABLE facet.crop_walk (
    url TEXT NOT NULL,
    position TEXT DEFAULT '' NOT NULL,
    removed BIGINT DEFAULT 0 NOT NULL,
    strangers BIGINT DEFAULT 0 NOT NULL,
    stranger TEXT,
    began_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_crop_walk PRIMARY KEY (url)
);

ALTER TABLE facet.file_removal
    ADD COLUMN is_named BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN attempts INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN not_before TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_error TEXT;
"""

DOWN = """
ALTER TABLE facet.file_removal
    DROP COLUMN is_named, DROP COLUMN attempts, DROP COLUMN not_before, DROP COLUMN last_error;
DROP TABLE facet.crop_walk;
DROP TABLE facet.crop_check;
DROP TABLE facet.erasure_failure;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
