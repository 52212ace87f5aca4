-- The views of version 0016, to compare with: their statements without comments.
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
    r.manifest
FROM facet.release AS r;

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
    CASE WHEN a.analysis_id IS NULL THEN m.reason ELSE a.reason END AS reason,
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
    ) AS notes
FROM facet.media_file AS m
LEFT JOIN facet.analysis AS a ON a.analysis_id = (
    SELECT b.analysis_id
    FROM facet.analysis AS b
    JOIN facet.release AS r USING (release_id)
    WHERE b.media_id = m.media_id
    ORDER BY r.active DESC, b.is_current DESC, b.analysis_id DESC
    LIMIT 1
);

CREATE OR REPLACE VIEW facet.jobs AS
SELECT
    j.job_id,
    j.name,
    coalesce(i.items, 0) + j.erased_done + j.erased_rejected + j.erased_quarantined AS submitted,
    coalesce(i.done, 0) + j.erased_done AS done,
    coalesce(i.rejected, 0) + j.erased_rejected AS rejected,
    coalesce(i.quarantined, 0) + j.erased_quarantined AS quarantined,
    coalesce(i.pending, 0) AS pending,
    j.submitted_at,
    CASE
        WHEN coalesce(i.pending, 0) = 0 AND w.submission <> 'open' THEN greatest(j.finished_at, i.finished_at, j.written_at)
    END AS finished_at,
    j.erased_done + j.erased_rejected + j.erased_quarantined AS erased,
    j.submitted_at + make_interval(days => j.keep_days) AS keep_until,
    coalesce(i.cancelled, 0) AS cancelled,
    w.submission
FROM facet.job AS j
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN j.submission = 'open' AND j.written_at < now() - INTERVAL '1 hour' THEN 'broken'
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
        max(s.finished_at) AS finished_at
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
            END AS finished_at
        FROM facet.job_item AS item
        JOIN facet.job AS c USING (job_id)
        LEFT JOIN facet.analysis AS a USING (analysis_id)
    ) AS s
    GROUP BY s.job_id
) AS i USING (job_id);

CREATE OR REPLACE VIEW facet.faces AS
SELECT
    f.face_id,
    f.media_id,
    f.appearance_id,
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
    attributes.attributes,
    f.embedding,
    r.name AS release,
    f.landmarks,
    f.face_no,
    f.crop_uri,
    f.crop_index,
    coalesce(f.frame_width, m.width)::integer AS frame_width,
    coalesce(f.frame_height, m.height)::integer AS frame_height,
    coalesce(f.hold_seconds, a.sample_interval_seconds, 0) AS hold_seconds
FROM facet.face AS f
JOIN facet.release AS r ON r.release_id = f.release_id AND r.active
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current
LEFT JOIN facet.media_file AS m ON m.media_id = f.media_id
LEFT JOIN facet.appearance AS p ON p.appearance_id = f.appearance_id
LEFT JOIN facet.prediction AS age ON age.face_id = f.face_id AND age.head = 'age'
LEFT JOIN facet.prediction AS gender ON gender.face_id = f.face_id AND gender.head = 'gender'
LEFT JOIN facet.prediction AS ethnicity ON ethnicity.face_id = f.face_id AND ethnicity.head = 'ethnicity'
LEFT JOIN facet.prediction AS emotion ON emotion.face_id = f.face_id AND emotion.head = 'emotion'
LEFT JOIN facet.prediction AS attributes ON attributes.face_id = f.face_id AND attributes.head = 'attributes';

CREATE OR REPLACE VIEW facet.appearances AS
SELECT
    p.appearance_id,
    p.media_id,
    p.person_id,
    p.start_seconds,
    p.end_seconds,
    p.face_count,
    p.best_face_id,
    p.age,
    p.age_low,
    p.age_high,
    p.gender,
    p.gender_confidence,
    p.ethnicity,
    p.ethnicity_confidence,
    p.emotion,
    p.emotion_confidence,
    p.emotions,
    p.attributes,
    r.name AS release,
    coalesce(
        p.screen_seconds, p.end_seconds - p.start_seconds + coalesce(a.sample_interval_seconds, 0)
    ) AS screen_seconds,
    p.quality,
    p.embedding,
    p.ordinal
FROM facet.appearance AS p
JOIN facet.release AS r ON r.release_id = p.release_id AND r.active
JOIN facet.analysis AS a ON a.analysis_id = p.analysis_id AND a.is_current;

CREATE OR REPLACE VIEW facet.person_share AS
SELECT
    s.person_id,
    s.appearance_id,
    s.media_id,
    s.face_count,
    s.quality,
    s.best_face_id,
    coalesce(
        s.screen_seconds, s.end_seconds - s.start_seconds + coalesce(a.sample_interval_seconds, 0)
    )::numeric AS screen_seconds,
    s.age::numeric * s.face_count * least(greatest(s.quality, 0.01), 1)::numeric AS age_sum,
    CASE WHEN s.age IS NOT NULL THEN s.face_count * least(greatest(s.quality, 0.01), 1)::numeric END AS age_weight,
    s.gender,
    s.face_count * least(greatest(s.quality, 0.01), 1)::numeric
        * least(coalesce(s.gender_confidence, 1), 1)::numeric AS gender_votes,
    s.ethnicity,
    s.face_count * least(greatest(s.quality, 0.01), 1)::numeric
        * least(coalesce(s.ethnicity_confidence, 1), 1)::numeric AS ethnicity_votes
FROM facet.appearance AS s
JOIN facet.analysis AS a USING (analysis_id)
WHERE s.person_id IS NOT NULL AND a.is_current;

CREATE OR REPLACE VIEW facet.person_recount AS
SELECT
    p.person_id,
    p.release_id,
    t.*,
    gender.label AS gender,
    coalesce(gender.votes, '{}') AS gender_votes,
    ethnicity.label AS ethnicity,
    coalesce(ethnicity.votes, '{}') AS ethnicity_votes
FROM facet.person AS p
CROSS JOIN LATERAL (
    SELECT
        count(*) AS appearance_count,
        count(DISTINCT s.media_id) AS media_count,
        coalesce(sum(s.face_count), 0) AS face_count,
        coalesce(sum(s.screen_seconds), 0) AS screen_seconds,
        sum(s.age_sum) AS age_sum,
        sum(s.age_weight) AS age_weight,
        max(s.quality) AS best_quality,
        (array_agg(s.appearance_id ORDER BY s.quality DESC, s.appearance_id))[1] AS best_appearance_id,
        (array_agg(s.best_face_id ORDER BY s.quality DESC, s.appearance_id))[1] AS best_face_id
    FROM facet.person_share AS s
    WHERE s.person_id = p.person_id
) AS t
LEFT JOIN LATERAL (
    SELECT (array_agg(g.label ORDER BY g.votes DESC, g.label))[1] AS label, jsonb_object_agg(g.label, g.votes) AS votes
    FROM (
        SELECT s.gender AS label, sum(s.gender_votes) AS votes
        FROM facet.person_share AS s
        WHERE s.person_id = p.person_id AND s.gender IS NOT NULL
        GROUP BY s.gender
    ) AS g
) AS gender ON true
LEFT JOIN LATERAL (
    SELECT (array_agg(e.label ORDER BY e.votes DESC, e.label))[1] AS label, jsonb_object_agg(e.label, e.votes) AS votes
    FROM (
        SELECT s.ethnicity AS label, sum(s.ethnicity_votes) AS votes
        FROM facet.person_share AS s
        WHERE s.person_id = p.person_id AND s.ethnicity IS NOT NULL
        GROUP BY s.ethnicity
    ) AS e
) AS ethnicity ON true;

CREATE OR REPLACE VIEW facet.people AS
SELECT
    t.person_id,
    p.name,
    t.appearance_count,
    t.media_count,
    t.face_count,
    t.best_face_id,
    (t.age_sum / t.age_weight)::real AS age,
    t.gender,
    t.ethnicity,
    r.name AS release,
    t.screen_seconds::double precision AS screen_seconds,
    p.created_at
FROM facet.person_total AS t
JOIN facet.release AS r ON r.release_id = t.release_id AND r.active
JOIN facet.person AS p ON p.person_id = t.person_id
WHERE t.appearance_count > 0
    AND t.person_id NOT IN (SELECT n.person_id FROM facet.person_change AS n)
UNION ALL
SELECT
    t.person_id,
    p.name,
    t.appearance_count,
    t.media_count,
    t.face_count,
    t.best_face_id,
    (t.age_sum / t.age_weight)::real AS age,
    t.gender,
    t.ethnicity,
    r.name AS release,
    t.screen_seconds::double precision AS screen_seconds,
    p.created_at
FROM (SELECT DISTINCT n.person_id FROM facet.person_change AS n) AS changed
JOIN facet.person AS p USING (person_id)
JOIN facet.release AS r ON r.release_id = p.release_id AND r.active
JOIN facet.person_recount AS t USING (person_id)
WHERE t.appearance_count > 0;

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
    r.name AS release
FROM facet.correction AS c
JOIN facet.release AS r USING (release_id)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.side = 0) AS appearance_count, count(DISTINCT a.media_id) AS media_count
    FROM facet.correction_anchor AS a
    WHERE a.correction_id = c.correction_id
) AS k;

CREATE OR REPLACE VIEW facet.predictions AS
SELECT
    q.face_id,
    q.head,
    q.label,
    q.value,
    q.low,
    q.high,
    q.confidence,
    q.probabilities,
    q.attributes,
    r.name AS release,
    jsonb_path_query_first(
        r.manifest, '$.branches[*] ? (@.task == $head).labels', jsonb_build_object('head', q.head)
    ) AS labels
FROM facet.prediction AS q
JOIN facet.face AS f USING (face_id)
JOIN facet.release AS r ON r.release_id = f.release_id AND r.active
JOIN facet.analysis AS a ON a.analysis_id = f.analysis_id AND a.is_current;
