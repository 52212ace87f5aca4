-- The views for users. Names and columns stay. docs/sql.md explains them, and a test compares it with the comments below.
-- Predictions are joined one head at a time on their whole key, so that PostgreSQL drops the join of every head that a
-- query does not ask for, and turns the others into plain joins when it filters on them.

-- Codes of scores and landmarks, as db/bulk/codes.py writes them: 16 bits each, big-endian. These functions read no
-- table, so every role may call them.
CREATE OR REPLACE FUNCTION facet.decode_landmarks(codes bytea, x1 real, y1 real, x2 real, y2 real) RETURNS real[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY[
    (x1 + (get_byte(codes, 0) * 256 + get_byte(codes, 1) - 16384) / 16384.0::double precision
        * CASE WHEN x2 > x1 THEN x2::double precision - x1 ELSE 1 END)::real,
    (y1 + (get_byte(codes, 2) * 256 + get_byte(codes, 3) - 16384) / 16384.0::double precision
        * CASE WHEN y2 > y1 THEN y2::double precision - y1 ELSE 1 END)::real,
    (x1 + (get_byte(codes, 4) * 256 + get_byte(codes, 5) - 16384) / 16384.0::double precision
        * CASE WHEN x2 > x1 THEN x2::double precision - x1 ELSE 1 END)::real,
    (y1 + (get_byte(codes, 6) * 256 + get_byte(codes, 7) - 16384) / 16384.0::double precision
        * CASE WHEN y2 > y1 THEN y2::double precision - y1 ELSE 1 END)::real,
    (x1 + (get_byte(codes, 8) * 256 + get_byte(codes, 9) - 16384) / 16384.0::double precision
        * CASE WHEN x2 > x1 THEN x2::double precision - x1 ELSE 1 END)::real,
    (y1 + (get_byte(codes, 10) * 256 + get_byte(codes, 11) - 16384) / 16384.0::double precision
        * CASE WHEN y2 > y1 THEN y2::double precision - y1 ELSE 1 END)::real,
    (x1 + (get_byte(codes, 12) * 256 + get_byte(codes, 13) - 16384) / 16384.0::double precision
        * CASE WHEN x2 > x1 THEN x2::double precision - x1 ELSE 1 END)::real,
    (y1 + (get_byte(codes, 14) * 256 + get_byte(codes, 15) - 16384) / 16384.0::double precision
        * CASE WHEN y2 > y1 THEN y2::double precision - y1 ELSE 1 END)::real,
    (x1 + (get_byte(codes, 16) * 256 + get_byte(codes, 17) - 16384) / 16384.0::double precision
        * CASE WHEN x2 > x1 THEN x2::double precision - x1 ELSE 1 END)::real,
    (y1 + (get_byte(codes, 18) * 256 + get_byte(codes, 19) - 16384) / 16384.0::double precision
        * CASE WHEN y2 > y1 THEN y2::double precision - y1 ELSE 1 END)::real
];

-- The logit of one label of a multilabel head, by its place from 0.
CREATE OR REPLACE FUNCTION facet.decode_logit(codes bytea, place integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (get_byte(codes, 2 * place) * 256 + get_byte(codes, 2 * place + 1) - 32768) / 1024.0::double precision;

-- The probability of a logit, rounded to four decimals.
CREATE OR REPLACE FUNCTION facet.decode_probability(logit double precision, temperature double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(10000 / (1 + exp(least(greatest(-logit / temperature, -700), 700)))) / 10000;

CREATE OR REPLACE FUNCTION facet.decode_attributes(codes bytea, labels text[], temperature double precision)
RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT jsonb_object_agg(
        l.label, facet.decode_probability(facet.decode_logit(codes, l.place::integer - 1), temperature)
    )
    FROM unnest(labels) WITH ORDINALITY AS l (label, place)
);

CREATE OR REPLACE FUNCTION facet.decode_probabilities(codes bytea, kind text, temperature double precision)
RETURNS real[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE kind
    WHEN 'multilabel' THEN (
        SELECT array_agg(
            (1 / (1 + exp(least(greatest(-facet.decode_logit(codes, p.place) / temperature, -700), 700))))::real
            ORDER BY p.place
        )
        FROM generate_series(0, octet_length(codes) / 2 - 1) AS p (place)
    )
    ELSE (
        SELECT array_agg((e.weight / e.total)::real ORDER BY e.place)
        FROM (
            SELECT w.place, w.weight, sum(w.weight) OVER () AS total
            FROM (
                SELECT
                    p.place,
                    exp(greatest(
                        (get_byte(codes, 2 * p.place) * 256 + get_byte(codes, 2 * p.place + 1))
                        / -2048.0::double precision / temperature, -700
                    )) AS weight
                FROM generate_series(0, octet_length(codes) / 2 - 1) AS p (place)
            ) AS w
        ) AS e
    )
END;


-- The reading of each task that the active release has. Not for users.
CREATE OR REPLACE VIEW facet.active_reading AS
SELECT c.task, c.reading_id, c.head_id
FROM facet.release AS r
JOIN facet.release_reading AS c USING (release_id)
WHERE r.active;


-- Labels, kind and temperature of each reading, which decode its scores. Not for users.
CREATE OR REPLACE VIEW facet.reading_key AS
SELECT
    g.layer_id AS reading_id,
    h.layer_id AS head_id,
    h.labels,
    g.spec ->> 'kind' AS kind,
    coalesce((g.spec ->> 'temperature')::double precision, 1) AS temperature
FROM facet.layer AS g
JOIN facet.layer AS h ON h.layer_id = g.parent_id
WHERE g.kind = 'reading';


CREATE OR REPLACE VIEW facet.releases AS
SELECT
    r.name AS release,
    r.active,
    r.weights_sha256,
    r.code_version,
    r.created_at,
    r.metrics,
    r.release_id,
    r.fingerprint,
    r.manifest,
    r.alias,
    r.retired_at
FROM facet.release AS r;

COMMENT ON VIEW facet.releases IS 'A model release: a choice of the layers that derived rows name.';
COMMENT ON COLUMN facet.releases.release IS 'Name of the release.';
COMMENT ON COLUMN facet.releases.active IS 'True for the one release that faces, appearances and people show.';
COMMENT ON COLUMN facet.releases.weights_sha256 IS 'SHA-256 over all weight files.';
COMMENT ON COLUMN facet.releases.code_version IS 'Version of the program that registered it.';
COMMENT ON COLUMN facet.releases.created_at IS 'When it was registered.';
COMMENT ON COLUMN facet.releases.metrics IS 'Measured quality of its heads, as its model card has it.';
COMMENT ON COLUMN facet.releases.release_id IS 'Number of the release in this database.';
COMMENT ON COLUMN facet.releases.fingerprint IS 'Hash of weights, preprocessing and code: equal only for equal results.';
COMMENT ON COLUMN facet.releases.manifest IS 'Its manifest: detector, trunk, branches, data, licences, hashes.';
COMMENT ON COLUMN facet.releases.alias IS 'candidate: the release that is prepared to become the active one.';
COMMENT ON COLUMN facet.releases.retired_at IS 'When it was retired: no worker serves it; null while it is in use.';


-- A file shows one of its analyses: under the finder of the active release, the current sampling first, then the newest.
-- A file that was refused, and so has no analysis, shows its own reason. The analysis is joined on its key, so that a query
-- for uri alone, the commonest use of this view, does not search for it.
CREATE OR REPLACE VIEW facet.media AS
SELECT
    m.media_id,
    m.sha256,
    m.uri,
    m.kind,
    m.width,
    m.height,
    m.duration_seconds,
    m.frames_per_second,
    coalesce(a.state, CASE WHEN m.reason IS NOT NULL THEN 'rejected' ELSE 'pending' END) AS status,
    CASE
        WHEN a.analysis_id IS NULL
            THEN coalesce(m.reason, 'other_release: the active release lacks it; facet reprocess fills it in')
        ELSE a.reason
    END AS reason,
    m.submitted_at,
    CASE WHEN a.analysis_id IS NULL AND m.reason IS NOT NULL THEN m.submitted_at ELSE a.finished_at END AS finished_at,
    m.format,
    m.byte_size,
    a.frame_count,
    a.face_count,
    a.sampling,
    a.sample_interval_seconds,
    (
        SELECT array_agg(noted.note ORDER BY noted.place)
        FROM (
            SELECT n.note, min(ARRAY[u.ordinal, n.place]) AS place
            FROM facet.unit AS u
            CROSS JOIN LATERAL unnest(u.notes) WITH ORDINALITY AS n (note, place)
            WHERE u.analysis_id = a.analysis_id
            GROUP BY n.note
        ) AS noted
    ) AS notes,
    m.taken_at,
    m.camera,
    m.latitude,
    m.longitude,
    m.title,
    m.tags,
    m.orientation
FROM facet.media_file AS m
LEFT JOIN facet.analysis AS a ON a.analysis_id = (
    SELECT b.analysis_id
    FROM facet.analysis AS b
    WHERE b.media_id = m.media_id AND b.finder_id = (SELECT r.finder_id FROM facet.release AS r WHERE r.active)
    ORDER BY b.is_current DESC, b.analysis_id DESC
    LIMIT 1
);

COMMENT ON VIEW facet.media IS
    'A file, known by its bytes: submitted twice, it is one row. Its results are those under the active release.';
COMMENT ON COLUMN facet.media.media_id IS 'Number of the file.';
COMMENT ON COLUMN facet.media.sha256 IS 'SHA-256 of its bytes; null when they could not be read.';
COMMENT ON COLUMN facet.media.uri IS 'Where it was found first; a member of an archive is archive.zip!/member.jpg.';
COMMENT ON COLUMN facet.media.kind IS 'image or video, recognised by content; null when refused before that was known.';
COMMENT ON COLUMN facet.media.width IS
    'Width of its first frame, upright, in pixels; faces.frame_width is that of each frame.';
COMMENT ON COLUMN facet.media.height IS
    'Height of its first frame, upright, in pixels; faces.frame_height is that of each frame.';
COMMENT ON COLUMN facet.media.duration_seconds IS 'Duration; null for an image and where the container does not state it.';
COMMENT ON COLUMN facet.media.frames_per_second IS 'Frame rate of the file (not of the sampling); null for an image.';
COMMENT ON COLUMN facet.media.status IS 'pending, done, rejected (see reason), quarantined (it kept killing its worker) or cancelled.';
COMMENT ON COLUMN facet.media.reason IS
    'Why it was rejected or quarantined, or that it is pending because only other releases have it, as code: message.';
COMMENT ON COLUMN facet.media.submitted_at IS 'When it was submitted first.';
COMMENT ON COLUMN facet.media.finished_at IS 'When its analysis ended; null while pending.';
COMMENT ON COLUMN facet.media.format IS 'Container or image format: jpeg, heic, mp4, matroska, ...';
COMMENT ON COLUMN facet.media.byte_size IS 'Size of the file in bytes.';
COMMENT ON COLUMN facet.media.frame_count IS 'Frames that were analysed.';
COMMENT ON COLUMN facet.media.face_count IS 'Faces that were detected, dropped ones included.';
COMMENT ON COLUMN facet.media.sampling IS 'Which frames were analysed: 2/s or every.';
COMMENT ON COLUMN facet.media.sample_interval_seconds IS
    'Seconds between two analysed frames; null for an image and where every frame is analysed.';
COMMENT ON COLUMN facet.media.notes IS
    'Parts of the file that were not analysed, and results that are doubtful; null where there is nothing to note.';
COMMENT ON COLUMN facet.media.taken_at IS
    'When it was taken, by the clock of the camera; of a video without a zone in UTC. From EXIF, XMP, IPTC or the container.';
COMMENT ON COLUMN facet.media.camera IS 'Maker and model of the camera.';
COMMENT ON COLUMN facet.media.latitude IS 'Where it was taken: degrees, north positive.';
COMMENT ON COLUMN facet.media.longitude IS 'Where it was taken: degrees, east positive.';
COMMENT ON COLUMN facet.media.title IS 'Title that the file states.';
COMMENT ON COLUMN facet.media.tags IS
    'What else it states: utc_offset, description, creator, copyright, keywords; null where no analysis has read it.';
COMMENT ON COLUMN facet.media.orientation IS
    'EXIF orientation under which its first frame is stored, 1 (upright) to 8; null where no analysis has read it.';


-- One row an item of a job: its state is that of its analysis, and an item without one was refused (see jobs).
CREATE OR REPLACE VIEW facet.files AS
SELECT
    i.job_id,
    i.item_no,
    i.uri,
    i.media_id,
    m.kind,
    CASE
        WHEN a.state IS NULL THEN 'rejected'
        WHEN j.cancelled_at IS NOT NULL AND a.state = 'pending' THEN 'cancelled'
        ELSE a.state
    END AS status,
    CASE WHEN a.state IS NULL THEN coalesce(i.reason, m.reason) ELSE a.reason END AS reason,
    m.location,
    EXISTS (
        SELECT FROM facet.job_item AS o
        WHERE o.media_id = i.media_id AND o.job_id = i.job_id AND o.item_no < i.item_no
    ) AS is_duplicate,
    (
        SELECT u.last_error
        FROM facet.unit AS u
        WHERE u.analysis_id = i.analysis_id AND u.last_error IS NOT NULL
        ORDER BY u.unit_id DESC
        LIMIT 1
    ) AS last_error,
    j.submitted_at,
    CASE WHEN a.state IS NULL THEN j.submitted_at ELSE a.finished_at END AS finished_at
FROM facet.job_item AS i
JOIN facet.job AS j USING (job_id)
JOIN facet.media_file AS m ON m.media_id = i.media_id
LEFT JOIN facet.analysis AS a ON a.analysis_id = i.analysis_id;

COMMENT ON VIEW facet.files IS
    'A file of a job, at the place where the job found it: of files with the same bytes, each has a row here, and all have one in media.';
COMMENT ON COLUMN facet.files.job_id IS 'The job.';
COMMENT ON COLUMN facet.files.item_no IS 'Number of the file in its job.';
COMMENT ON COLUMN facet.files.uri IS 'Where this job found it; a member of an archive is archive.zip!/member.jpg.';
COMMENT ON COLUMN facet.files.media_id IS 'The file in media.';
COMMENT ON COLUMN facet.files.kind IS 'image or video, recognised by content; null when refused before that was known.';
COMMENT ON COLUMN facet.files.status IS 'Its state in this job: pending, done, rejected, quarantined or cancelled.';
COMMENT ON COLUMN facet.files.reason IS 'Why it was rejected or quarantined, as code: message.';
COMMENT ON COLUMN facet.files.location IS
    'Where it is read now: the place of the latest submission, or the unpacked copy of a member of an archive; null when refused.';
COMMENT ON COLUMN facet.files.is_duplicate IS 'Whether an earlier file of the same job has the same bytes.';
COMMENT ON COLUMN facet.files.last_error IS 'Error of its last failed attempt, also where a later one went well; null for none.';
COMMENT ON COLUMN facet.files.submitted_at IS 'When the job was submitted.';
COMMENT ON COLUMN facet.files.finished_at IS 'When its analysis ended; null while pending.';


-- A cut is the first sampled frame of a new shot. UNION drops a cut at the very beginning.
CREATE OR REPLACE VIEW facet.scenes AS
SELECT
    s.media_id,
    row_number() OVER (PARTITION BY s.media_id ORDER BY s.start_seconds) AS scene_no,
    s.start_seconds,
    coalesce(
        lead(s.start_seconds) OVER (PARTITION BY s.media_id ORDER BY s.start_seconds), m.duration_seconds
    ) AS end_seconds
FROM (
    SELECT a.media_id, 0::double precision AS start_seconds
    FROM facet.analysis AS a
    JOIN facet.release AS r ON r.finder_id = a.finder_id AND r.active
    WHERE a.is_current
    UNION
    SELECT a.media_id, c.at_seconds
    FROM facet.analysis AS a
    JOIN facet.release AS r ON r.finder_id = a.finder_id AND r.active
    JOIN facet.scene_cut AS c ON c.analysis_id = a.analysis_id
    WHERE a.is_current
) AS s
JOIN facet.media_file AS m ON m.media_id = s.media_id AND m.kind = 'video';

COMMENT ON VIEW facet.scenes IS
    'A shot of a video, from one cut to the next, under the active release; its borders are frames that were analysed.';
COMMENT ON COLUMN facet.scenes.media_id IS 'The video.';
COMMENT ON COLUMN facet.scenes.scene_no IS 'Number of the shot in its video, from 1.';
COMMENT ON COLUMN facet.scenes.start_seconds IS 'Time of its first frame.';
COMMENT ON COLUMN facet.scenes.end_seconds IS
    'Time of the first frame of the next shot, or the duration of the video; null where that is not stated.';


-- All jobs are counted in one pass over their items, and one job that is asked for by its number from its own. An item
-- without an analysis was refused by its submission. A file of a cancelled job whose analysis has not ended counts as
-- cancelled there, also where another job still waits for it. A submission that wrote nothing for an hour counts as
-- broken: its process was killed, or has read one file for very long. It counts as open again when it writes.
CREATE OR REPLACE VIEW facet.jobs AS
SELECT
    j.job_id,
    j.name,
    (
        coalesce(i.items, 0) + coalesce(b.faces, 0) + coalesce(g.faces, 0)
        + j.erased_done + j.erased_rejected + j.erased_quarantined
    )::bigint AS submitted,
    (coalesce(i.done, 0) + coalesce(b.done, 0) + j.erased_done)::bigint AS done,
    (coalesce(i.rejected, 0) + coalesce(g.faces, 0) + j.erased_rejected)::bigint AS rejected,
    (coalesce(i.quarantined, 0) + coalesce(b.quarantined, 0) + j.erased_quarantined)::bigint AS quarantined,
    (coalesce(i.pending, 0) + coalesce(b.pending, 0))::bigint AS pending,
    j.submitted_at,
    CASE
        WHEN coalesce(i.pending, 0) + coalesce(b.pending, 0) = 0 AND w.submission <> 'open'
            THEN greatest(j.finished_at, i.finished_at, j.written_at)
    END AS finished_at,
    j.erased_done + j.erased_rejected + j.erased_quarantined AS erased,
    j.submitted_at + make_interval(days => j.keep_days) AS keep_until,
    (coalesce(i.cancelled, 0) + coalesce(b.cancelled, 0))::bigint AS cancelled,
    w.submission,
    coalesce(i.lacking, 0) AS lacking,
    j.kind,
    r.name AS release,
    j.paused_at IS NOT NULL AS paused
FROM facet.job AS j
LEFT JOIN facet.release AS r ON r.release_id = coalesce(j.release_id, (j.options ->> 'release_id')::bigint)
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN j.kind = 'submission' AND j.submission = 'open' AND j.written_at < now() - INTERVAL '1 hour'
                THEN 'broken'
            ELSE j.submission
        END AS submission
) AS w
LEFT JOIN (
    SELECT
        s.job_id,
        count(*) AS items,
        count(*) FILTER (WHERE s.state = 'done') AS done,
        count(*) FILTER (WHERE s.state = 'rejected') AS rejected,
        count(*) FILTER (WHERE s.state = 'quarantined') AS quarantined,
        count(*) FILTER (WHERE s.state = 'pending') AS pending,
        count(*) FILTER (WHERE s.state = 'cancelled') AS cancelled,
        max(s.finished_at) AS finished_at,
        count(*) FILTER (WHERE s.is_lacking) AS lacking
    FROM (
        SELECT
            item.job_id,
            CASE
                WHEN a.state IS NULL THEN 'rejected'
                WHEN c.cancelled_at IS NOT NULL AND a.state = 'pending' THEN 'cancelled'
                ELSE a.state
            END AS state,
            CASE
                WHEN a.state IS NULL THEN c.submitted_at
                WHEN a.state IN ('pending', 'cancelled') THEN c.cancelled_at
                ELSE a.finished_at
            END AS finished_at,
            -- The search is made for files of other releases alone.
            a.state = 'done' AND a.finder_id <> (SELECT r.finder_id FROM facet.release AS r WHERE r.active)
            AND NOT EXISTS (
                SELECT FROM facet.analysis AS n
                WHERE n.media_id = item.media_id AND n.is_current
                    AND n.finder_id = (SELECT r.finder_id FROM facet.release AS r WHERE r.active)
            ) AS is_lacking
        FROM facet.job_item AS item
        JOIN facet.job AS c USING (job_id)
        LEFT JOIN facet.analysis AS a USING (analysis_id)
    ) AS s
    GROUP BY s.job_id
) AS i USING (job_id)
LEFT JOIN (
    SELECT
        u.job_id,
        sum(u.face_count) AS faces,
        sum(u.face_count) FILTER (WHERE u.state = 'done') AS done,
        sum(u.face_count) FILTER (WHERE u.state = 'quarantined') AS quarantined,
        sum(u.face_count) FILTER (WHERE u.state IN ('pending', 'leased')) AS pending,
        sum(u.face_count) FILTER (WHERE u.state = 'cancelled') AS cancelled
    FROM facet.unit AS u
    WHERE u.job_id IS NOT NULL
    GROUP BY u.job_id
) AS b USING (job_id)
LEFT JOIN (
    SELECT n.job_id, sum(n.face_count) AS faces
    FROM facet.reprocess_gap AS n
    GROUP BY n.job_id
) AS g USING (job_id);

COMMENT ON VIEW facet.jobs IS
    'A submission or a reprocessing; submitted = done + rejected + quarantined + cancelled + pending, always.';
COMMENT ON COLUMN facet.jobs.job_id IS 'Number of the job.';
COMMENT ON COLUMN facet.jobs.name IS 'Name given at submission.';
COMMENT ON COLUMN facet.jobs.submitted IS
    'Files in it, a file met twice counts twice; of a reprocessing faces, once for each way, and files analysed again.';
COMMENT ON COLUMN facet.jobs.done IS 'Files that were analysed; faces that were reprocessed.';
COMMENT ON COLUMN facet.jobs.rejected IS
    'Files that cannot be analysed; `facet status` and media.reason state why. Faces without a source to reprocess them.';
COMMENT ON COLUMN facet.jobs.quarantined IS 'Files set aside because they kept killing their worker.';
COMMENT ON COLUMN facet.jobs.pending IS 'Files that wait or are being analysed.';
COMMENT ON COLUMN facet.jobs.submitted_at IS 'When it was submitted.';
COMMENT ON COLUMN facet.jobs.finished_at IS
    'When its last file ended; null while one is pending or its submission is open.';
COMMENT ON COLUMN facet.jobs.erased IS
    'Of all files, those erased since; one that was pending or cancelled counts as rejected.';
COMMENT ON COLUMN facet.jobs.keep_until IS
    'When its files are erased, unless another job keeps them longer; null for never.';
COMMENT ON COLUMN facet.jobs.cancelled IS 'Files that were not analysed because the job was cancelled.';
COMMENT ON COLUMN facet.jobs.submission IS
    'open (files are still being read), ended, or broken: stopped, failed or silent for an hour, so files may be missing.';
COMMENT ON COLUMN facet.jobs.lacking IS
    'Of the done files, those that the active release lacks: another release analysed them; facet reprocess fills them in.';
COMMENT ON COLUMN facet.jobs.kind IS
    'submission, or reprocess: it fills in what a release lacks, and counts faces.';
COMMENT ON COLUMN facet.jobs.release IS 'The release under which its files are analysed or its faces reprocessed.';
COMMENT ON COLUMN facet.jobs.paused IS 'True while no worker takes its units; `facet jobs resume` continues it.';


-- The layers of the active release are read once for a query. Only tables that queries filter and group by are joined:
-- PostgreSQL orders up to eight joins freely, those of the query included. Scores stand in one row per face and head;
-- where the row of the active reading has none, another reading of the head does.
CREATE OR REPLACE VIEW facet.faces AS
SELECT
    f.face_id,
    a.media_id,
    e.appearance_id,
    p.person_id,
    f.frame_index,
    f.at_seconds,
    f.x1,
    f.y1,
    f.x2,
    f.y2,
    f.detection_score,
    f.quality,
    f.dropped_reason,
    age.value AS age,
    age.low AS age_low,
    age.high AS age_high,
    gender.label AS gender,
    gender.confidence AS gender_confidence,
    ethnicity.label AS ethnicity,
    ethnicity.confidence AS ethnicity_confidence,
    emotion.label AS emotion,
    emotion.confidence AS emotion_confidence,
    facet.decode_attributes(
        (
            SELECT q.scores
            FROM facet.prediction AS q
            JOIN facet.layer AS g ON g.layer_id = q.reading_id
            WHERE q.face_id = f.face_id AND q.scores IS NOT NULL
                AND g.parent_id = (SELECT c.head_id FROM facet.active_reading AS c WHERE c.task = 'attributes')
                AND EXISTS (
                    SELECT FROM facet.prediction AS w
                    WHERE w.face_id = f.face_id AND w.reading_id = (
                        SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'attributes'
                    )
                )
            LIMIT 1
        ),
        (
            SELECT k.labels
            FROM facet.active_reading AS c
            JOIN facet.reading_key AS k USING (reading_id)
            WHERE c.task = 'attributes'
        ),
        (
            SELECT k.temperature
            FROM facet.active_reading AS c
            JOIN facet.reading_key AS k USING (reading_id)
            WHERE c.task = 'attributes'
        )
    ) AS attributes,
    e.embedding::vector(128) AS embedding,
    (SELECT r.name FROM facet.release AS r WHERE r.active) AS release,
    facet.decode_landmarks(f.landmarks, f.x1, f.y1, f.x2, f.y2) AS landmarks,
    f.face_no::integer AS face_no,
    (SELECT s.uri FROM facet.crop_strip AS s WHERE s.unit_id = f.unit_id AND s.strip_no = f.strip_no) AS crop_uri,
    CASE
        WHEN EXISTS (SELECT FROM facet.crop_strip AS s WHERE s.unit_id = f.unit_id AND s.strip_no = f.strip_no)
            THEN f.crop_index
    END::bigint AS crop_index,
    coalesce(
        f.frame_width, (SELECT m.width FROM facet.media_file AS m WHERE m.media_id = a.media_id)
    )::integer AS frame_width,
    coalesce(
        f.frame_height, (SELECT m.height FROM facet.media_file AS m WHERE m.media_id = a.media_id)
    )::integer AS frame_height,
    coalesce(f.hold_seconds, a.sample_interval_seconds, 0) AS hold_seconds,
    e.embedding AS half_embedding
FROM facet.face AS f
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current
    AND a.finder_id = (SELECT r.finder_id FROM facet.release AS r WHERE r.active)
LEFT JOIN facet.face_embedding AS e ON e.face_id = f.face_id
    AND e.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active)
LEFT JOIN facet.appearance AS p ON p.appearance_id = e.appearance_id
LEFT JOIN facet.prediction AS age ON age.face_id = f.face_id
    AND age.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'age')
LEFT JOIN facet.prediction AS gender ON gender.face_id = f.face_id
    AND gender.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'gender')
LEFT JOIN facet.prediction AS ethnicity ON ethnicity.face_id = f.face_id
    AND ethnicity.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'ethnicity')
LEFT JOIN facet.prediction AS emotion ON emotion.face_id = f.face_id
    AND emotion.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'emotion');

COMMENT ON VIEW facet.faces IS
    'A face in a frame, under the active release: every detection, the dropped ones with their reason.';
COMMENT ON COLUMN facet.faces.face_id IS 'Number of the face.';
COMMENT ON COLUMN facet.faces.media_id IS 'The file.';
COMMENT ON COLUMN facet.faces.appearance_id IS 'The appearance it belongs to; null for a face that belongs to none.';
COMMENT ON COLUMN facet.faces.person_id IS 'The person; null while none is assigned.';
COMMENT ON COLUMN facet.faces.frame_index IS 'Number of the frame in its file, from 0.';
COMMENT ON COLUMN facet.faces.at_seconds IS
    'Time of the frame in a video, as a player shows it; 0 for an image of one frame, the number of the page in one with pages.';
COMMENT ON COLUMN facet.faces.x1 IS 'Left edge of its box, pixels of the upright frame.';
COMMENT ON COLUMN facet.faces.y1 IS 'Top edge of its box, pixels.';
COMMENT ON COLUMN facet.faces.x2 IS 'Right edge of its box, pixels.';
COMMENT ON COLUMN facet.faces.y2 IS 'Bottom edge of its box, pixels.';
COMMENT ON COLUMN facet.faces.detection_score IS 'How sure the detector is that this is a face, 0 to 1.';
COMMENT ON COLUMN facet.faces.quality IS 'Quality of the face (size, sharpness, pose), 0 to 1.';
COMMENT ON COLUMN facet.faces.dropped_reason IS
    'Why it did not reach the model (too_small, profile, ...); null for a face that was kept.';
COMMENT ON COLUMN facet.faces.age IS 'Apparent age in years; null when dropped, abstained or the head is off.';
COMMENT ON COLUMN facet.faces.age_low IS 'Lower end of the central 80 % interval of the age.';
COMMENT ON COLUMN facet.faces.age_high IS 'Upper end of the central 80 % interval of the age.';
COMMENT ON COLUMN facet.faces.gender IS 'female, male or unknown, as the model reads the face; null when the head is off.';
COMMENT ON COLUMN facet.faces.gender_confidence IS 'Probability of the likeliest gender, 0 to 1.';
COMMENT ON COLUMN facet.faces.ethnicity IS 'Label of the head or unknown; null when the head is off.';
COMMENT ON COLUMN facet.faces.ethnicity_confidence IS 'Probability of the likeliest ethnicity, 0 to 1.';
COMMENT ON COLUMN facet.faces.emotion IS 'Expression on the face, a label of the head or unknown; null when the head is off.';
COMMENT ON COLUMN facet.faces.emotion_confidence IS 'Probability of the likeliest emotion, 0 to 1.';
COMMENT ON COLUMN facet.faces.attributes IS 'Facial attributes as {name: probability}; null when the head is off.';
COMMENT ON COLUMN facet.faces.embedding IS
    'Identity as a vector of length 1; <=> is the cosine distance of two; null when dropped.';
COMMENT ON COLUMN facet.faces.release IS 'The release that made the row.';
COMMENT ON COLUMN facet.faces.landmarks IS
    'x and y of left eye, right eye, nose, left and right mouth corner as in the image, pixels.';
COMMENT ON COLUMN facet.faces.face_no IS 'Number of the face in its frame, from 0.';
COMMENT ON COLUMN facet.faces.crop_uri IS 'Where its aligned crop lies in the crop store; null when none was kept.';
COMMENT ON COLUMN facet.faces.crop_index IS 'Number of the crop in that file.';
COMMENT ON COLUMN facet.faces.frame_width IS
    'Width of its frame, upright with square pixels; boxes and landmarks are in pixels of that frame.';
COMMENT ON COLUMN facet.faces.frame_height IS 'Height of its frame, likewise.';
COMMENT ON COLUMN facet.faces.hold_seconds IS
    'Time that its frame stands for: until the next analysed frame, or to the end of the video; 0 for an image of one frame.';
COMMENT ON COLUMN facet.faces.half_embedding IS
    'The same as embedding, in 16 bits a number, as it is stored: faster where many are compared.';


-- One attribute of all faces is read without building JSON. The first branch is inlined, which the second cannot be.
CREATE OR REPLACE VIEW facet.face_attributes AS
SELECT
    f.face_id,
    a.media_id,
    k.label AS attribute,
    facet.decode_probability(
        CASE
            WHEN q.scores IS NOT NULL THEN facet.decode_logit(q.scores, k.place)
            ELSE facet.decode_logit((
                SELECT o.scores
                FROM facet.prediction AS o
                JOIN facet.layer AS l ON l.layer_id = o.reading_id
                WHERE o.face_id = q.face_id AND o.scores IS NOT NULL AND l.parent_id = k.head_id
                LIMIT 1
            ), k.place)
        END,
        k.temperature
    )::real AS probability
FROM (
    SELECT c.reading_id, c.head_id, d.temperature, l.label, l.place::integer - 1 AS place
    FROM facet.active_reading AS c
    JOIN facet.reading_key AS d USING (reading_id)
    CROSS JOIN LATERAL unnest(d.labels) WITH ORDINALITY AS l (label, place)
    WHERE c.task = 'attributes'
) AS k
JOIN facet.prediction AS q ON q.reading_id = k.reading_id
JOIN facet.face AS f ON f.face_id = q.face_id
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current;

COMMENT ON VIEW facet.face_attributes IS
    'One facial attribute of one face, under the active release: faces.attributes as rows, and faster for one attribute.';
COMMENT ON COLUMN facet.face_attributes.face_id IS 'The face.';
COMMENT ON COLUMN facet.face_attributes.media_id IS 'The file.';
COMMENT ON COLUMN facet.face_attributes.attribute IS 'Name of the attribute: Eyeglasses, Smiling, ...';
COMMENT ON COLUMN facet.face_attributes.probability IS 'Its probability, 0 to 1.';


CREATE OR REPLACE VIEW facet.appearances AS
SELECT
    p.appearance_id,
    p.media_id,
    p.person_id,
    p.start_seconds,
    p.end_seconds,
    p.face_count,
    p.best_face_id,
    age.value AS age,
    age.low AS age_low,
    age.high AS age_high,
    gender.label AS gender,
    gender.confidence AS gender_confidence,
    ethnicity.label AS ethnicity,
    ethnicity.confidence AS ethnicity_confidence,
    emotion.label AS emotion,
    emotion.confidence AS emotion_confidence,
    emotion.shares AS emotions,
    facet.decode_attributes(
        (
            SELECT q.scores
            FROM facet.appearance_prediction AS q
            WHERE q.appearance_id = p.appearance_id AND q.reading_id = (
                SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'attributes'
            )
        ),
        (
            SELECT k.labels
            FROM facet.active_reading AS c
            JOIN facet.reading_key AS k USING (reading_id)
            WHERE c.task = 'attributes'
        ),
        1
    ) AS attributes,
    (SELECT r.name FROM facet.release AS r WHERE r.active) AS release,
    coalesce(
        p.screen_seconds, p.end_seconds - p.start_seconds + coalesce(a.sample_interval_seconds, 0)
    ) AS screen_seconds,
    p.quality,
    p.embedding::vector(128) AS embedding,
    p.ordinal,
    p.embedding AS half_embedding
FROM facet.appearance AS p
JOIN facet.analysis AS a ON a.analysis_id = p.analysis_id AND a.is_current
LEFT JOIN facet.appearance_prediction AS age ON age.appearance_id = p.appearance_id
    AND age.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'age')
LEFT JOIN facet.appearance_prediction AS gender ON gender.appearance_id = p.appearance_id
    AND gender.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'gender')
LEFT JOIN facet.appearance_prediction AS ethnicity ON ethnicity.appearance_id = p.appearance_id
    AND ethnicity.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'ethnicity')
LEFT JOIN facet.appearance_prediction AS emotion ON emotion.appearance_id = p.appearance_id
    AND emotion.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'emotion')
WHERE p.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active);

COMMENT ON VIEW facet.appearances IS 'One person in view in one file, with start and end, under the active release.';
COMMENT ON COLUMN facet.appearances.appearance_id IS 'Number of the appearance.';
COMMENT ON COLUMN facet.appearances.media_id IS 'The file.';
COMMENT ON COLUMN facet.appearances.person_id IS 'The person; null while none is assigned.';
COMMENT ON COLUMN facet.appearances.start_seconds IS 'Time of its first face.';
COMMENT ON COLUMN facet.appearances.end_seconds IS
    'Time of its last face; of one whose frame stays on screen, the last moment at which it would have been sampled.';
COMMENT ON COLUMN facet.appearances.face_count IS 'Faces in it, dropped ones included.';
COMMENT ON COLUMN facet.appearances.best_face_id IS 'Its kept face of the highest quality.';
COMMENT ON COLUMN facet.appearances.age IS 'Apparent age in years over its faces; null when none was read.';
COMMENT ON COLUMN facet.appearances.age_low IS 'Lower end of the central 80 % interval of the age.';
COMMENT ON COLUMN facet.appearances.age_high IS 'Upper end of the central 80 % interval of the age.';
COMMENT ON COLUMN facet.appearances.gender IS 'female, male or unknown over its faces; null when the head is off.';
COMMENT ON COLUMN facet.appearances.gender_confidence IS 'Probability of the likeliest gender, 0 to 1.';
COMMENT ON COLUMN facet.appearances.ethnicity IS 'Label of the head or unknown over its faces; null when the head is off.';
COMMENT ON COLUMN facet.appearances.ethnicity_confidence IS 'Probability of the likeliest ethnicity, 0 to 1.';
COMMENT ON COLUMN facet.appearances.emotion IS 'The emotion that it shows most, or unknown; null when the head is off.';
COMMENT ON COLUMN facet.appearances.emotion_confidence IS 'Share of that emotion, 0 to 1.';
COMMENT ON COLUMN facet.appearances.emotions IS 'Share of its time in view in which each emotion is shown as {name: share}.';
COMMENT ON COLUMN facet.appearances.attributes IS 'Facial attributes over its faces as {name: mean probability}.';
COMMENT ON COLUMN facet.appearances.release IS 'The release that made the row.';
COMMENT ON COLUMN facet.appearances.screen_seconds IS
    'Time in view: from its first face until the frame of its last one is replaced on screen; 0 for an image of one frame.';
COMMENT ON COLUMN facet.appearances.quality IS 'Quality of its best face, 0 to 1.';
COMMENT ON COLUMN facet.appearances.embedding IS 'Identity over its faces as a vector of length 1.';
COMMENT ON COLUMN facet.appearances.ordinal IS 'Number of the appearance in its file, from 0.';
COMMENT ON COLUMN facet.appearances.half_embedding IS
    'The same as embedding, in 16 bits a number, as it is stored: faster where many are compared.';


-- The share of an appearance in the totals of its person under a trunk. Not for users.
CREATE OR REPLACE VIEW facet.person_share AS
SELECT
    s.person_id,
    s.trunk_id,
    s.appearance_id,
    s.media_id,
    s.face_count,
    s.quality,
    s.best_face_id,
    coalesce(
        s.screen_seconds, s.end_seconds - s.start_seconds + coalesce(a.sample_interval_seconds, 0)
    )::numeric AS screen_seconds
FROM facet.appearance AS s
JOIN facet.analysis AS a USING (analysis_id)
WHERE s.person_id IS NOT NULL AND a.is_current;


-- The vote of an appearance for its person under a reading, weighted by number and quality of its faces: twenty clear
-- faces outweigh a blurred one. Decimals are exact, so that the order of the summands changes nothing. Not for users.
CREATE OR REPLACE VIEW facet.person_vote AS
SELECT
    s.person_id,
    s.trunk_id,
    s.appearance_id,
    q.reading_id,
    q.value::numeric * s.face_count * least(greatest(s.quality, 0.01), 1)::numeric AS value_sum,
    CASE WHEN q.value IS NOT NULL THEN s.face_count * least(greatest(s.quality, 0.01), 1)::numeric END AS value_weight,
    q.label,
    s.face_count * least(greatest(s.quality, 0.01), 1)::numeric * least(coalesce(q.confidence, 1), 1)::numeric AS votes
FROM facet.appearance AS s
JOIN facet.analysis AS a USING (analysis_id)
JOIN facet.appearance_prediction AS q USING (appearance_id)
JOIN facet.layer AS g ON g.layer_id = q.reading_id
WHERE s.person_id IS NOT NULL AND a.is_current AND g.task IN ('age', 'gender', 'ethnicity');


-- Totals of a person under each trunk, counted from its appearances. Not for users.
CREATE OR REPLACE VIEW facet.person_recount AS
SELECT p.person_id, l.layer_id AS trunk_id, t.*
FROM facet.person AS p
JOIN facet.layer AS l ON l.kind = 'trunk'
CROSS JOIN LATERAL (
    SELECT
        count(*) AS appearance_count,
        count(DISTINCT s.media_id) AS media_count,
        coalesce(sum(s.face_count), 0) AS face_count,
        coalesce(sum(s.screen_seconds), 0) AS screen_seconds,
        max(s.quality) AS best_quality,
        (array_agg(s.appearance_id ORDER BY s.quality DESC, s.appearance_id))[1] AS best_appearance_id,
        (array_agg(s.best_face_id ORDER BY s.quality DESC, s.appearance_id))[1] AS best_face_id
    FROM facet.person_share AS s
    WHERE s.person_id = p.person_id AND s.trunk_id = l.layer_id
) AS t;


-- Mean or elected label of a person under each reading, counted from its appearances. Not for users.
CREATE OR REPLACE VIEW facet.person_reading_recount AS
SELECT
    v.person_id,
    v.reading_id,
    sum(v.value_sum) AS value_sum,
    sum(v.value_weight) AS value_weight,
    (array_agg(v.label ORDER BY v.votes DESC, v.label) FILTER (WHERE v.label IS NOT NULL))[1] AS label,
    coalesce(jsonb_object_agg(v.label, v.votes) FILTER (WHERE v.label IS NOT NULL), '{}') AS votes
FROM (
    SELECT s.person_id, s.reading_id, s.label, sum(s.votes) AS votes, sum(s.value_sum) AS value_sum,
        sum(s.value_weight) AS value_weight
    FROM facet.person_vote AS s
    GROUP BY s.person_id, s.reading_id, s.label
) AS v
GROUP BY v.person_id, v.reading_id;


-- Totals are kept (db/schema/totals.py); the few people whose appearances changed since are counted here. They are left
-- out of the others by NOT IN, which looks them up in a hash table also where PostgreSQL believes that there are none.
-- Both sides of the merge candidates of the active release that no user has answered; an answer whose correction was
-- undone is none.
CREATE OR REPLACE VIEW facet.person_candidate AS
SELECT unnest(ARRAY[k.first_person_id, k.second_person_id]) AS person_id
FROM facet.person_alike AS k
WHERE k.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active)
    AND NOT EXISTS (
        SELECT FROM facet.pair_answer AS w
        JOIN facet.correction AS c ON c.correction_id = w.correction_id
        WHERE w.first_person_id = k.first_person_id AND w.second_person_id = k.second_person_id
            AND c.undone_at IS NULL
    );

CREATE OR REPLACE VIEW facet.counted_people AS
SELECT
    t.person_id,
    p.name,
    t.appearance_count,
    t.media_count,
    t.face_count,
    t.best_face_id,
    (t.answers ->> (SELECT c.reading_id::text FROM facet.active_reading AS c WHERE c.task = 'age'))::real AS age,
    t.answers ->> (SELECT c.reading_id::text FROM facet.active_reading AS c WHERE c.task = 'gender') AS gender,
    t.answers ->> (SELECT c.reading_id::text FROM facet.active_reading AS c WHERE c.task = 'ethnicity') AS ethnicity,
    (SELECT r.name FROM facet.release AS r WHERE r.active) AS release,
    t.screen_seconds::double precision AS screen_seconds,
    p.created_at,
    p.hidden_at,
    t.person_id IN (SELECT k.person_id FROM facet.person_candidate AS k) AS has_merge_candidate
FROM facet.person_total AS t
JOIN facet.person AS p ON p.person_id = t.person_id
WHERE t.appearance_count > 0
    AND t.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active);

COMMENT ON VIEW facet.counted_people IS 
    'As people, from kept sums alone: a person that another program changes is missing or old until it is counted. '
    'Ordered by appearance_count or screen_seconds, then by person_id, its first rows are read from an index.';
COMMENT ON COLUMN facet.counted_people.person_id IS 'Number of the person.';
COMMENT ON COLUMN facet.counted_people.name IS 'Name that a user gave; null for an unnamed person.';
COMMENT ON COLUMN facet.counted_people.appearance_count IS 'Appearances in all files.';
COMMENT ON COLUMN facet.counted_people.media_count IS 'Files the person is in.';
COMMENT ON COLUMN facet.counted_people.face_count IS 'Faces in all appearances, dropped ones included.';
COMMENT ON COLUMN facet.counted_people.best_face_id IS 'The best face of its appearance of the highest quality.';
COMMENT ON COLUMN facet.counted_people.age IS
    'Apparent age in years, mean over appearances weighted by face_count x quality; null when none was read.';
COMMENT ON COLUMN facet.counted_people.gender IS
    'The label with the greatest sum of face_count x quality x confidence; unknown is elected like the others.';
COMMENT ON COLUMN facet.counted_people.ethnicity IS 'Elected like gender.';
COMMENT ON COLUMN facet.counted_people.release IS 'The release that made the appearances.';
COMMENT ON COLUMN facet.counted_people.screen_seconds IS 'Time in view over all appearances.';
COMMENT ON COLUMN facet.counted_people.created_at IS 'When the person was created.';
COMMENT ON COLUMN facet.counted_people.hidden_at IS 'When a user hid the person from the lists of the page; null while it is shown.';
COMMENT ON COLUMN facet.counted_people.has_merge_candidate IS
    'Whether another person resembles this one so much that both may be one, and no user has answered whether they are.';

CREATE OR REPLACE VIEW facet.people AS
SELECT
    c.person_id,
    c.name,
    c.appearance_count,
    c.media_count,
    c.face_count,
    c.best_face_id,
    c.age,
    c.gender,
    c.ethnicity,
    c.release,
    c.screen_seconds,
    c.created_at,
    c.hidden_at,
    c.has_merge_candidate
FROM facet.counted_people AS c
WHERE c.person_id NOT IN (
    SELECT n.person_id
    FROM facet.person_change AS n
    WHERE n.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active)
)
UNION ALL
SELECT
    t.person_id,
    p.name,
    t.appearance_count,
    t.media_count,
    t.face_count,
    t.best_face_id,
    (age.value_sum / age.value_weight)::real AS age,
    gender.label AS gender,
    ethnicity.label AS ethnicity,
    (SELECT r.name FROM facet.release AS r WHERE r.active) AS release,
    t.screen_seconds::double precision AS screen_seconds,
    p.created_at,
    p.hidden_at,
    t.person_id IN (SELECT k.person_id FROM facet.person_candidate AS k) AS has_merge_candidate
FROM (
    SELECT DISTINCT n.person_id, n.trunk_id
    FROM facet.person_change AS n
    WHERE n.trunk_id = (SELECT r.trunk_id FROM facet.release AS r WHERE r.active)
) AS changed
JOIN facet.person AS p ON p.person_id = changed.person_id
JOIN facet.person_recount AS t ON t.person_id = changed.person_id AND t.trunk_id = changed.trunk_id
LEFT JOIN LATERAL (
    SELECT sum(v.value_sum) AS value_sum, sum(v.value_weight) AS value_weight
    FROM facet.person_vote AS v
    WHERE v.person_id = changed.person_id
        AND v.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'age')
) AS age ON true
LEFT JOIN LATERAL (
    SELECT v.label
    FROM facet.person_vote AS v
    WHERE v.person_id = changed.person_id AND v.label IS NOT NULL
        AND v.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'gender')
    GROUP BY v.label
    ORDER BY sum(v.votes) DESC, v.label
    LIMIT 1
) AS gender ON true
LEFT JOIN LATERAL (
    SELECT v.label
    FROM facet.person_vote AS v
    WHERE v.person_id = changed.person_id AND v.label IS NOT NULL
        AND v.reading_id = (SELECT c.reading_id FROM facet.active_reading AS c WHERE c.task = 'ethnicity')
    GROUP BY v.label
    ORDER BY sum(v.votes) DESC, v.label
    LIMIT 1
) AS ethnicity ON true
WHERE t.appearance_count > 0;

COMMENT ON VIEW facet.people IS 'An identity cluster: one person over all files, under the active release.';
COMMENT ON COLUMN facet.people.person_id IS 'Number of the person.';
COMMENT ON COLUMN facet.people.name IS 'Name that a user gave; null for an unnamed person.';
COMMENT ON COLUMN facet.people.appearance_count IS 'Appearances in all files.';
COMMENT ON COLUMN facet.people.media_count IS 'Files the person is in.';
COMMENT ON COLUMN facet.people.face_count IS 'Faces in all appearances, dropped ones included.';
COMMENT ON COLUMN facet.people.best_face_id IS 'The best face of its appearance of the highest quality.';
COMMENT ON COLUMN facet.people.age IS
    'Apparent age in years, mean over appearances weighted by face_count x quality; null when none was read.';
COMMENT ON COLUMN facet.people.gender IS
    'The label with the greatest sum of face_count x quality x confidence; unknown is elected like the others.';
COMMENT ON COLUMN facet.people.ethnicity IS 'Elected like gender.';
COMMENT ON COLUMN facet.people.release IS 'The release that made the appearances.';
COMMENT ON COLUMN facet.people.screen_seconds IS 'Time in view over all appearances.';
COMMENT ON COLUMN facet.people.created_at IS 'When the person was created.';
COMMENT ON COLUMN facet.people.hidden_at IS 'When a user hid the person from the lists of the page; null while it is shown.';
COMMENT ON COLUMN facet.people.has_merge_candidate IS
    'Whether another person resembles this one so much that both may be one, and no user has answered whether they are.';


CREATE OR REPLACE VIEW facet.corrections AS
SELECT
    c.correction_id,
    c.kind,
    c.people[1] AS person_id,
    c.name,
    c.reason,
    c.created_at,
    c.undone_at,
    k.appearance_count,
    k.media_count,
    c.people,
    c.undo_reason,
    r.name AS release,
    c.made_by,
    c.undone_by
FROM facet.correction AS c
JOIN facet.release AS r USING (release_id)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.side = 0) AS appearance_count, count(DISTINCT a.media_id) AS media_count
    FROM facet.correction_anchor AS a
    WHERE a.correction_id = c.correction_id
) AS k;

COMMENT ON VIEW facet.corrections IS
    'A statement of a user about people; it holds for everything that is analysed or grouped later, until it is undone.';
COMMENT ON COLUMN facet.corrections.correction_id IS 'Number of the correction.';
COMMENT ON COLUMN facet.corrections.kind IS
    'name, merge (all of people are one), split (some appearances are a new person) or not (some are not this person).';
COMMENT ON COLUMN facet.corrections.person_id IS 'The person it is about.';
COMMENT ON COLUMN facet.corrections.name IS 'The name that was given, or that a merged or separated person kept.';
COMMENT ON COLUMN facet.corrections.reason IS 'Why, in the words of the user.';
COMMENT ON COLUMN facet.corrections.created_at IS 'When it was made.';
COMMENT ON COLUMN facet.corrections.undone_at IS 'When it was undone; null while it holds.';
COMMENT ON COLUMN facet.corrections.appearance_count IS
    'Appearances it is about: those that were named, joined, split off or excluded.';
COMMENT ON COLUMN facet.corrections.media_count IS 'Files of these appearances.';
COMMENT ON COLUMN facet.corrections.people IS
    'All people it changed, the person it is about first; 0 for a person who was erased.';
COMMENT ON COLUMN facet.corrections.undo_reason IS 'Why it was undone.';
COMMENT ON COLUMN facet.corrections.release IS 'The release whose people were corrected; it holds for all releases.';
COMMENT ON COLUMN facet.corrections.made_by IS 'Name of the user who made it; null where an earlier version stored none.';
COMMENT ON COLUMN facet.corrections.undone_by IS 'Name of the user who undid it.';


CREATE OR REPLACE VIEW facet.predictions AS
SELECT
    q.face_id,
    c.task AS head,
    q.label,
    q.value,
    q.low,
    q.high,
    q.confidence,
    facet.decode_probabilities(
        coalesce(q.scores, (
            SELECT o.scores
            FROM facet.prediction AS o
            JOIN facet.layer AS l ON l.layer_id = o.reading_id
            WHERE o.face_id = q.face_id AND o.scores IS NOT NULL
                AND l.parent_id = c.head_id
            LIMIT 1
        )),
        k.kind,
        k.temperature
    ) AS probabilities,
    CASE WHEN k.kind = 'multilabel' THEN facet.decode_attributes(
        coalesce(q.scores, (
            SELECT o.scores
            FROM facet.prediction AS o
            JOIN facet.layer AS l ON l.layer_id = o.reading_id
            WHERE o.face_id = q.face_id AND o.scores IS NOT NULL
                AND l.parent_id = c.head_id
            LIMIT 1
        )),
        k.labels,
        k.temperature
    ) END AS attributes,
    r.name AS release,
    to_jsonb(k.labels) AS labels
FROM facet.prediction AS q
JOIN facet.release_reading AS c ON c.reading_id = q.reading_id
JOIN facet.release AS r ON r.release_id = c.release_id AND r.active
JOIN facet.reading_key AS k ON k.reading_id = q.reading_id
JOIN facet.face AS f ON f.face_id = q.face_id
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current;

COMMENT ON VIEW facet.predictions IS
    'The prediction of one head for one face, under the active release, with all probabilities.';
COMMENT ON COLUMN facet.predictions.face_id IS 'The face.';
COMMENT ON COLUMN facet.predictions.head IS 'Name of the head: age, gender, ethnicity, emotion, emotion7 or attributes.';
COMMENT ON COLUMN facet.predictions.label IS
    'The likeliest label, or unknown where the head abstains; null for age and attributes.';
COMMENT ON COLUMN facet.predictions.value IS 'The value of a numeric head: age in years.';
COMMENT ON COLUMN facet.predictions.low IS 'Lower end of the central 80 % interval of the value.';
COMMENT ON COLUMN facet.predictions.high IS 'Upper end of the central 80 % interval of the value.';
COMMENT ON COLUMN facet.predictions.confidence IS 'Probability of the likeliest label, 0 to 1.';
COMMENT ON COLUMN facet.predictions.probabilities IS 'Probability of each label, in the order of labels.';
COMMENT ON COLUMN facet.predictions.attributes IS 'Of a head of several labels (attributes): {name: probability}.';
COMMENT ON COLUMN facet.predictions.release IS 'The release that made the row.';
COMMENT ON COLUMN facet.predictions.labels IS 'Array of the head''s labels.';


CREATE OR REPLACE VIEW facet.probabilities AS
SELECT
    q.face_id,
    q.head,
    k.labels[p.place] AS label,
    p.probability,
    q.release,
    p.probability >= (l.spec -> 'thresholds' ->> (p.place - 1)::int)::double precision AS present
FROM facet.predictions AS q
JOIN facet.active_reading AS c ON c.task = q.head
JOIN facet.reading_key AS k ON k.reading_id = c.reading_id
JOIN facet.layer AS l ON l.layer_id = c.reading_id
CROSS JOIN LATERAL unnest(q.probabilities) WITH ORDINALITY AS p (probability, place);

COMMENT ON VIEW facet.probabilities IS 'The probability of one label of one head for one face, under the active release.';
COMMENT ON COLUMN facet.probabilities.face_id IS 'The face.';
COMMENT ON COLUMN facet.probabilities.head IS 'Name of the head: age, gender, ethnicity, emotion, emotion7 or attributes.';
COMMENT ON COLUMN facet.probabilities.label IS 'The label; of age a number of years.';
COMMENT ON COLUMN facet.probabilities.probability IS
    '0 to 1; the labels of a head have a sum of 1, except attributes, each of which is a question of its own.';
COMMENT ON COLUMN facet.probabilities.release IS 'The release that made the row.';
COMMENT ON COLUMN facet.probabilities.present IS
    'Whether the probability reaches the threshold of the label: a face may have several labels, or none; null without thresholds.';


-- All releases side by side, the retired ones apart.
CREATE OR REPLACE VIEW facet.release_predictions AS
SELECT
    r.name AS release,
    r.active,
    q.face_id,
    c.task AS head,
    q.label,
    q.value,
    q.low,
    q.high,
    q.confidence,
    r.release_id
FROM facet.release AS r
JOIN facet.release_reading AS c USING (release_id)
JOIN facet.prediction AS q ON q.reading_id = c.reading_id
WHERE r.retired_at IS NULL;

COMMENT ON VIEW facet.release_predictions IS
    'Predictions under each release that is not retired; equal where releases share the reading.';
COMMENT ON COLUMN facet.release_predictions.release IS 'Name of the release.';
COMMENT ON COLUMN facet.release_predictions.active IS 'Whether it is the release that the other views show.';
COMMENT ON COLUMN facet.release_predictions.face_id IS 'The face; the same number under all releases with one finder.';
COMMENT ON COLUMN facet.release_predictions.head IS
    'Name of the head: age, gender, ethnicity, emotion, emotion7 or attributes.';
COMMENT ON COLUMN facet.release_predictions.label IS
    'The likeliest label, or unknown where the head abstains; null for age and attributes.';
COMMENT ON COLUMN facet.release_predictions.value IS 'The value of a numeric head: age in years.';
COMMENT ON COLUMN facet.release_predictions.low IS 'Lower end of the central 80 % interval of the value.';
COMMENT ON COLUMN facet.release_predictions.high IS 'Upper end of the central 80 % interval of the value.';
COMMENT ON COLUMN facet.release_predictions.confidence IS 'Probability of the likeliest label, 0 to 1.';
COMMENT ON COLUMN facet.release_predictions.release_id IS 'Number of the release.';


-- Only releases with the finder of the active one: under another finder a face has another number, and
-- `facet releases diff` pairs faces by their boxes. A head that both share is left out: nothing changes.
CREATE OR REPLACE VIEW facet.release_changes AS
SELECT
    r.name AS release,
    b.face_id,
    c.task AS head,
    CASE
        WHEN n.face_id IS NULL THEN 'missing'
        WHEN b.label IS DISTINCT FROM n.label OR abs(n.value - b.value) >= 1 THEN 'changed'
        ELSE 'unchanged'
    END AS change,
    b.label AS label_before,
    n.label AS label_after,
    b.value AS value_before,
    n.value AS value_after,
    n.value - b.value AS shift,
    b.confidence AS confidence_before,
    n.confidence AS confidence_after,
    r.release_id
FROM facet.release AS o
JOIN facet.release_reading AS d ON d.release_id = o.release_id
JOIN facet.release AS r ON r.finder_id = o.finder_id AND NOT r.active AND r.retired_at IS NULL
JOIN facet.release_reading AS c ON c.release_id = r.release_id AND c.task = d.task AND c.reading_id <> d.reading_id
JOIN facet.prediction AS b ON b.reading_id = d.reading_id
JOIN facet.face AS f ON f.face_id = b.face_id
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current
LEFT JOIN facet.prediction AS n ON n.face_id = b.face_id AND n.reading_id = c.reading_id
WHERE o.active;

COMMENT ON VIEW facet.release_changes IS
    'Predictions of the active release beside those of each other release with the same finder, for heads that differ.';
COMMENT ON COLUMN facet.release_changes.release IS 'Name of the other release.';
COMMENT ON COLUMN facet.release_changes.face_id IS 'The face.';
COMMENT ON COLUMN facet.release_changes.head IS 'Name of the head: age, gender, ethnicity, emotion, emotion7 or attributes.';
COMMENT ON COLUMN facet.release_changes.change IS
    'unchanged, changed (another label, or a value that differs by 1 or more) or missing: the other release lacks it.';
COMMENT ON COLUMN facet.release_changes.label_before IS 'The label under the active release.';
COMMENT ON COLUMN facet.release_changes.label_after IS 'The label under the other release.';
COMMENT ON COLUMN facet.release_changes.value_before IS 'The value under the active release.';
COMMENT ON COLUMN facet.release_changes.value_after IS 'The value under the other release.';
COMMENT ON COLUMN facet.release_changes.shift IS 'The value after minus the value before.';
COMMENT ON COLUMN facet.release_changes.confidence_before IS 'The confidence under the active release.';
COMMENT ON COLUMN facet.release_changes.confidence_after IS 'The confidence under the other release.';
COMMENT ON COLUMN facet.release_changes.release_id IS 'Number of the other release.';


-- Groups are those of the active release. Intervals: Wilson's of the share, a normal one of the mean.
CREATE OR REPLACE VIEW facet.release_drift AS
SELECT
    g.release,
    g.head,
    g.gender,
    g.ethnicity,
    g.age_from,
    g.quality_from,
    g.faces,
    g.changed,
    g.share,
    greatest((g.share + g.z / 2 - g.half) / (1 + g.z), 0) AS share_low,
    least((g.share + g.z / 2 + g.half) / (1 + g.z), 1) AS share_high,
    g.shift,
    g.shift - 1.959964 * g.deviation / sqrt(nullif(g.values, 0)) AS shift_low,
    g.shift + 1.959964 * g.deviation / sqrt(nullif(g.values, 0)) AS shift_high,
    g.release_id
FROM (
    SELECT
        s.*,
        s.changed::double precision / s.faces AS share,
        3.841459 / s.faces AS z,
        sqrt(
            3.841459 * s.changed * (s.faces - s.changed) / s.faces::double precision ^ 3
            + (3.841459 / s.faces) ^ 2 / 4
        ) AS half
    FROM (
        SELECT
            k.release,
            k.release_id,
            k.head,
            gender.label AS gender,
            ethnicity.label AS ethnicity,
            CASE
                WHEN age.value < 3 THEN 0
                WHEN age.value < 10 THEN 3
                WHEN age.value IS NOT NULL THEN least(floor(age.value / 10) * 10, 70)
            END::integer AS age_from,
            (least(floor(f.quality * 4), 3) / 4)::real AS quality_from,
            count(*) AS faces,
            count(*) FILTER (WHERE k.change = 'changed') AS changed,
            count(k.shift) AS values,
            avg(k.shift)::double precision AS shift,
            stddev_samp(k.shift)::double precision AS deviation
        FROM facet.release_changes AS k
        JOIN facet.face AS f USING (face_id)
        LEFT JOIN facet.prediction AS gender ON gender.face_id = k.face_id AND gender.reading_id = (
            SELECT x.reading_id FROM facet.active_reading AS x WHERE x.task = 'gender'
        )
        LEFT JOIN facet.prediction AS ethnicity ON ethnicity.face_id = k.face_id AND ethnicity.reading_id = (
            SELECT x.reading_id FROM facet.active_reading AS x WHERE x.task = 'ethnicity'
        )
        LEFT JOIN facet.prediction AS age ON age.face_id = k.face_id AND age.reading_id = (
            SELECT x.reading_id FROM facet.active_reading AS x WHERE x.task = 'age'
        )
        WHERE k.change <> 'missing'
        GROUP BY k.release, k.release_id, k.head, gender.label, ethnicity.label, age_from, quality_from
    ) AS s
) AS g;

COMMENT ON VIEW facet.release_drift IS
    'How much the predictions of a head change under another release, by gender x ethnicity x age band x quality of the active one.';
COMMENT ON COLUMN facet.release_drift.release IS 'Name of the other release.';
COMMENT ON COLUMN facet.release_drift.head IS 'A head in which it differs from the active release.';
COMMENT ON COLUMN facet.release_drift.gender IS 'The gender under the active release; null where it has none.';
COMMENT ON COLUMN facet.release_drift.ethnicity IS 'The ethnicity under the active release; null where it has none.';
COMMENT ON COLUMN facet.release_drift.age_from IS 'First year of the age band (0, 3, 10, 20, ... 70); null without an age.';
COMMENT ON COLUMN facet.release_drift.quality_from IS 'Lower end of the band of quality: 0, 0.25, 0.5 or 0.75.';
COMMENT ON COLUMN facet.release_drift.faces IS 'Faces with a prediction under both releases.';
COMMENT ON COLUMN facet.release_drift.changed IS 'Faces whose prediction changed.';
COMMENT ON COLUMN facet.release_drift.share IS 'Share of the faces whose prediction changed.';
COMMENT ON COLUMN facet.release_drift.share_low IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN facet.release_drift.share_high IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN facet.release_drift.shift IS 'Mean shift of the value; null for a head of labels.';
COMMENT ON COLUMN facet.release_drift.shift_low IS 'Lower end of its 95 % interval; null for one face.';
COMMENT ON COLUMN facet.release_drift.shift_high IS 'Upper end of its 95 % interval; null for one face.';
COMMENT ON COLUMN facet.release_drift.release_id IS 'Number of the other release.';


CREATE OR REPLACE VIEW facet.schedules AS
SELECT
    schedule_id,
    kind,
    options,
    cron,
    every_seconds,
    window_from,
    window_to,
    to_jsonb(days) AS days,
    time_zone,
    enabled,
    next_at,
    last_due_at,
    last_started_at,
    last_ended_at,
    last_success_at,
    last_job_id,
    last_result,
    held_reason,
    created_at,
    created_by
FROM facet.schedule;

COMMENT ON VIEW facet.schedules IS 'Recurring work: when it is due, and how its last run ended.';
COMMENT ON COLUMN facet.schedules.schedule_id IS 'Identifies the schedule.';
COMMENT ON COLUMN facet.schedules.kind IS 'reprocess, regroup or retention.';
COMMENT ON COLUMN facet.schedules.options IS 'Of a reprocessing, its options as JSON.';
COMMENT ON COLUMN facet.schedules.cron IS 'Cron expression of its times; null where a period or a window states them.';
COMMENT ON COLUMN facet.schedules.every_seconds IS 'Period; null where a cron expression or a window states the times.';
COMMENT ON COLUMN facet.schedules.window_from IS 'When its window opens, by the clock of the time zone; null without a window.';
COMMENT ON COLUMN facet.schedules.window_to IS
'When its window closes; the next day where it is not later than the opening; null without a window.';
COMMENT ON COLUMN facet.schedules.days IS 'Array of the days on which the window opens, mon to sun; null without a window.';
COMMENT ON COLUMN facet.schedules.time_zone IS 'IANA time zone of cron expression and window.';
COMMENT ON COLUMN facet.schedules.enabled IS 'Whether it is due at all.';
COMMENT ON COLUMN facet.schedules.next_at IS
'When it is due next, or when a run that failed is tried again; a time in the past waits for facet beat.';
COMMENT ON COLUMN facet.schedules.last_due_at IS 'The latest time at which it was due and began.';
COMMENT ON COLUMN facet.schedules.last_started_at IS 'When the last run began.';
COMMENT ON COLUMN facet.schedules.last_ended_at IS 'When the last run ended, well or not.';
COMMENT ON COLUMN facet.schedules.last_success_at IS 'When a run last ended well.';
COMMENT ON COLUMN facet.schedules.last_job_id IS 'The latest job that it started.';
COMMENT ON COLUMN facet.schedules.last_result IS 'How the last run ended, as a sentence.';
COMMENT ON COLUMN facet.schedules.held_reason IS
'Why the release was not activated after a reprocessing; null where nothing is held.';
COMMENT ON COLUMN facet.schedules.created_at IS 'When it was added.';
COMMENT ON COLUMN facet.schedules.created_by IS 'User and host that added it, or facet.';


-- Rows of all releases side by side, those of imported results included.
CREATE OR REPLACE VIEW facet.release_faces AS
SELECT
    r.name AS release,
    r.active,
    f.face_id,
    a.media_id,
    e.appearance_id,
    f.frame_index,
    f.at_seconds,
    f.x1,
    f.y1,
    f.x2,
    f.y2,
    f.detection_score,
    f.quality,
    f.dropped_reason,
    coalesce(
        f.frame_width, (SELECT m.width FROM facet.media_file AS m WHERE m.media_id = a.media_id)
    )::integer AS frame_width,
    coalesce(
        f.frame_height, (SELECT m.height FROM facet.media_file AS m WHERE m.media_id = a.media_id)
    )::integer AS frame_height,
    r.release_id
FROM facet.release AS r
JOIN facet.analysis AS a ON a.finder_id = r.finder_id AND a.is_current
JOIN facet.face AS f ON f.analysis_id = a.analysis_id
LEFT JOIN facet.face_embedding AS e ON e.face_id = f.face_id AND e.trunk_id = r.trunk_id
WHERE r.retired_at IS NULL;

COMMENT ON VIEW facet.release_faces IS
    'Faces under each release that is not retired, imported results included; equal where releases share the finder.';
COMMENT ON COLUMN facet.release_faces.release IS 'Name of the release.';
COMMENT ON COLUMN facet.release_faces.active IS 'Whether it is the release that the other views show.';
COMMENT ON COLUMN facet.release_faces.face_id IS 'The face.';
COMMENT ON COLUMN facet.release_faces.media_id IS 'The file.';
COMMENT ON COLUMN facet.release_faces.appearance_id IS 'The appearance under this release; null for a face in none.';
COMMENT ON COLUMN facet.release_faces.frame_index IS
    'Number of the frame in its file, from 0; of imported results the one nearest to the time.';
COMMENT ON COLUMN facet.release_faces.at_seconds IS 'Time of the frame, as in faces.';
COMMENT ON COLUMN facet.release_faces.x1 IS 'Left edge of its box, pixels of the upright frame.';
COMMENT ON COLUMN facet.release_faces.y1 IS 'Top edge of its box, pixels.';
COMMENT ON COLUMN facet.release_faces.x2 IS 'Right edge of its box, pixels.';
COMMENT ON COLUMN facet.release_faces.y2 IS 'Bottom edge of its box, pixels.';
COMMENT ON COLUMN facet.release_faces.detection_score IS 'How sure the detector is that this is a face, 0 to 1.';
COMMENT ON COLUMN facet.release_faces.quality IS
    'Quality of the face, 0 to 1; of imported results the sharpness, or 0 where the service states none.';
COMMENT ON COLUMN facet.release_faces.dropped_reason IS
    'Why it did not reach the model; null for a face that was kept, and in imported results.';
COMMENT ON COLUMN facet.release_faces.frame_width IS 'Width of its frame, pixels.';
COMMENT ON COLUMN facet.release_faces.frame_height IS 'Height of its frame, pixels.';
COMMENT ON COLUMN facet.release_faces.release_id IS 'Number of the release.';


CREATE OR REPLACE VIEW facet.release_appearances AS
SELECT
    r.name AS release,
    r.active,
    p.appearance_id,
    p.media_id,
    p.start_seconds,
    p.end_seconds,
    p.face_count,
    p.best_face_id,
    coalesce(
        p.screen_seconds, p.end_seconds - p.start_seconds + coalesce(a.sample_interval_seconds, 0)
    ) AS screen_seconds,
    r.release_id
FROM facet.release AS r
JOIN facet.appearance AS p ON p.trunk_id = r.trunk_id
JOIN facet.analysis AS a ON a.analysis_id = p.analysis_id AND a.is_current
WHERE r.retired_at IS NULL;

COMMENT ON VIEW facet.release_appearances IS
    'Appearances under each release that is not retired, imported results included; equal where releases share the trunk.';
COMMENT ON COLUMN facet.release_appearances.release IS 'Name of the release.';
COMMENT ON COLUMN facet.release_appearances.active IS 'Whether it is the release that the other views show.';
COMMENT ON COLUMN facet.release_appearances.appearance_id IS 'The appearance.';
COMMENT ON COLUMN facet.release_appearances.media_id IS 'The file.';
COMMENT ON COLUMN facet.release_appearances.start_seconds IS 'Time of its first face.';
COMMENT ON COLUMN facet.release_appearances.end_seconds IS 'Time of its last face.';
COMMENT ON COLUMN facet.release_appearances.face_count IS
    'Faces in it; of imported results without boxes, the thumbnails.';
COMMENT ON COLUMN facet.release_appearances.best_face_id IS
    'Its face of the highest quality; null in imported results without boxes.';
COMMENT ON COLUMN facet.release_appearances.screen_seconds IS 'Time in view, in seconds.';
COMMENT ON COLUMN facet.release_appearances.release_id IS 'Number of the release.';
