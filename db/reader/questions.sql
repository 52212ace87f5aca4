-- The questions of docs/sql.md with their parameters; the page shows them with the usual values (a test).
--
-- A question begins with its title. Indented lines follow: a parameter with its kind, usual value and meaning; or
-- "compared", where `facet releases diff` asks it under both releases.

-- How far is a job?
--     jobs integer 10: How many of the latest jobs
SELECT job_id, name, submitted - pending AS ended, submitted,
       round(100.0 * (submitted - pending) / nullif(submitted, 0), 1) AS percent,
       coalesce(finished_at, now()) - submitted_at AS running
FROM jobs
ORDER BY job_id DESC
LIMIT :jobs;

-- Is every file accounted for?
SELECT job_id, submitted, done, rejected, quarantined, cancelled, pending,
       submitted = done + rejected + quarantined + cancelled + pending AS adds_up
FROM jobs
ORDER BY job_id;

-- Which files could not be analysed, and why?
SELECT uri, status, reason, finished_at
FROM media
WHERE status IN ('rejected', 'quarantined')
ORDER BY uri;

-- Which reasons are the commonest?
SELECT split_part(reason, ':', 1) AS code, count(*) AS files, min(uri) AS example
FROM media
WHERE status = 'rejected'
GROUP BY code
ORDER BY files DESC;

-- Which files were analysed only in part?
SELECT uri, status, notes
FROM media
WHERE notes IS NOT NULL
ORDER BY uri;

-- Which faces were detected but dropped?
--     compared
SELECT coalesce(dropped_reason, '(kept)') AS outcome, count(*) AS faces,
       round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent
FROM faces
GROUP BY dropped_reason
ORDER BY faces DESC;

-- Which files of a job have the same bytes, or have moved?
SELECT f.job_id, f.uri, f.is_duplicate, f.location
FROM files AS f
WHERE f.is_duplicate OR (f.location <> f.uri AND f.uri NOT LIKE '%!/%')
ORDER BY f.job_id, f.item_no;

-- Which files show no face?
SELECT uri, kind, frame_count
FROM media
WHERE status = 'done' AND face_count = 0
ORDER BY uri;

-- How long are women and men on screen in each video?
--     compared
SELECT m.uri, a.gender, round(sum(a.screen_seconds)::numeric, 1) AS seconds,
       round(100 * (sum(a.screen_seconds) / sum(sum(a.screen_seconds)) OVER (PARTITION BY m.uri))::numeric, 1) AS percent
FROM appearances AS a
JOIN media AS m USING (media_id)
WHERE m.kind = 'video'
GROUP BY m.uri, a.gender
ORDER BY m.uri, seconds DESC;

-- What share of the women in a video is over 60?
--     age number 60: Age in years
--     compared
SELECT m.uri, count(*) AS women, count(*) FILTER (WHERE a.age > :age) AS older,
       round(100.0 * count(*) FILTER (WHERE a.age > :age) / count(*), 1) AS percent
FROM appearances AS a
JOIN media AS m USING (media_id)
WHERE a.gender = 'female' AND a.age IS NOT NULL
GROUP BY m.uri
ORDER BY percent DESC, m.uri;

-- How old are the faces of each year of the archive?
--     compared
WITH dated AS MATERIALIZED (
    SELECT media_id, substring(uri FROM '/((?:19|20)\d\d)/') AS year FROM media
)
SELECT d.year, count(*) AS faces, round(avg(f.age)::numeric, 1) AS mean_age,
       percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY f.age) AS tenth_half_ninetieth
FROM faces AS f
JOIN dated AS d USING (media_id)
WHERE f.age IS NOT NULL
GROUP BY d.year
ORDER BY d.year;

-- When, where and with which camera was an image taken?
--     first date 1970-01-01: Taken on this day or later
--     last date 1980-01-01: Taken before this day
SELECT uri, taken_at, camera, latitude, longitude, title, tags ->> 'creator' AS creator
FROM media
WHERE taken_at BETWEEN :first AND :last
ORDER BY taken_at;

-- How does the expression of one appearance change?
--     appearance integer 1: Number of the appearance
SELECT at_seconds, emotion, round(emotion_confidence::numeric, 2) AS confidence
FROM faces
WHERE appearance_id = :appearance AND emotion IS NOT NULL
ORDER BY at_seconds;

-- How long are the shots of a video, and who is in them?
SELECT m.uri, s.scene_no, s.start_seconds, s.end_seconds, array_agg(DISTINCT a.person_id) AS people
FROM scenes AS s
JOIN media AS m USING (media_id)
JOIN appearances AS a ON a.media_id = s.media_id AND a.end_seconds >= s.start_seconds
    AND (a.start_seconds < s.end_seconds OR s.end_seconds IS NULL)
GROUP BY m.uri, s.scene_no, s.start_seconds, s.end_seconds
ORDER BY m.uri, s.scene_no;

-- Which emotions make up a video?
--     compared
SELECT m.uri, e.key AS emotion,
       round((sum(e.value::real * a.face_count) / sum(a.face_count))::numeric, 3) AS share
FROM appearances AS a
JOIN media AS m USING (media_id)
CROSS JOIN LATERAL jsonb_each(a.emotions) AS e
WHERE m.kind = 'video'
GROUP BY m.uri, e.key
ORDER BY m.uri, share DESC;

-- When was each person happiest?
--     emotion text happiness: Emotion
SELECT DISTINCT ON (f.person_id) f.person_id, p.name, m.uri, f.at_seconds, f.emotion_confidence, f.face_id
FROM faces AS f
JOIN people AS p USING (person_id)
JOIN media AS m USING (media_id)
WHERE f.emotion = :emotion
ORDER BY f.person_id, f.emotion_confidence DESC;

-- Who is in view together, and when?
SELECT m.uri, a.person_id AS one, b.person_id AS other,
       greatest(a.start_seconds, b.start_seconds) AS from_seconds,
       least(a.end_seconds, b.end_seconds) AS to_seconds
FROM appearances AS a
JOIN appearances AS b
    ON b.media_id = a.media_id AND b.person_id > a.person_id
   AND b.start_seconds <= a.end_seconds AND a.start_seconds <= b.end_seconds
JOIN media AS m ON m.media_id = a.media_id
ORDER BY m.uri, from_seconds;

-- Who is in the same files, whether together or not?
--     pairs integer 100: Most pairs
WITH seen AS (
    SELECT DISTINCT media_id, person_id FROM appearances WHERE person_id IS NOT NULL
)
SELECT a.person_id AS one, b.person_id AS other, count(*) AS files
FROM seen AS a
JOIN seen AS b ON b.media_id = a.media_id AND b.person_id > a.person_id
GROUP BY a.person_id, b.person_id
ORDER BY files DESC, one, other
LIMIT :pairs;

-- Who is in the most files?
--     people integer 20: Most people
--     compared
SELECT person_id, name, gender, round(age::numeric) AS age, media_count, appearance_count,
       round(screen_seconds::numeric, 1) AS screen_seconds
FROM people
ORDER BY media_count DESC, face_count DESC
LIMIT :people;

-- Where is one person seen?
--     name text Ada: Name of the person
SELECT m.uri, a.start_seconds, a.end_seconds, round(a.age::numeric) AS age, a.best_face_id
FROM people AS p
JOIN appearances AS a USING (person_id)
JOIN media AS m USING (media_id)
WHERE p.name = :name
ORDER BY m.uri, a.start_seconds;

-- Which faces is the model unsure of?
--     faces integer 100: Most faces
SELECT f.face_id, m.uri, f.at_seconds, f.gender, round(f.gender_confidence::numeric, 2) AS confidence,
       round(f.quality::numeric, 2) AS quality
FROM faces AS f
JOIN media AS m USING (media_id)
WHERE f.gender = 'unknown'
ORDER BY f.gender_confidence
LIMIT :faces;

-- What exactly does the model predict for one face?
--     face integer 1: Number of the face
SELECT head, label, value, low, high, confidence, attributes
FROM predictions
WHERE face_id = :face
ORDER BY head;

-- How probable is every label of one head?
--     face integer 1: Number of the face
--     head text emotion: Name of the head
SELECT label, round(probability::numeric, 3) AS probability, present
FROM probabilities
WHERE face_id = :face AND head = :head
ORDER BY probability DESC;

-- Whose age is the least certain?
--     faces integer 20: Most faces
SELECT face_id, age, age_low, age_high, age_high - age_low AS width
FROM faces
WHERE age IS NOT NULL
ORDER BY width DESC
LIMIT :faces;

-- Who wears glasses?
--     attribute text Eyeglasses: Name of the attribute
--     least number 0.5: Least probability, 0 to 1
SELECT face_id, media_id, probability AS glasses
FROM face_attributes
WHERE attribute = :attribute AND probability > :least
ORDER BY glasses DESC;

-- Which image shows the largest group?
--     images integer 10: Most images
--     compared
SELECT m.uri, count(*) AS people
FROM faces AS f
JOIN media AS m USING (media_id)
WHERE m.kind = 'image' AND f.dropped_reason IS NULL
GROUP BY m.media_id, m.uri
ORDER BY people DESC
LIMIT :images;

-- In which minute of a video are the most people in view?
--     minutes integer 10: Most minutes
--     compared
SELECT uri, minute, count(DISTINCT person_id) AS people_in_view
FROM appearances
JOIN media USING (media_id)
CROSS JOIN generate_series(floor(start_seconds / 60)::int, floor(end_seconds / 60)::int) AS minute
WHERE kind = 'video'
GROUP BY uri, minute
ORDER BY people_in_view DESC, uri, minute
LIMIT :minutes;

-- Which faces look most like this one?
--     face integer 1: Number of the face
--     faces integer 10: Most faces
SELECT f.face_id, f.media_id, f.person_id, n.distance
FROM (
    SELECT face_id, half_embedding <=> (SELECT half_embedding FROM faces WHERE face_id = :face) AS distance
    FROM faces
    WHERE half_embedding IS NOT NULL AND face_id <> :face
    ORDER BY distance
    LIMIT :faces
) AS n
JOIN faces AS f USING (face_id)
ORDER BY n.distance;

-- Who may be the same person as this one?
--     person integer 1: Number of the person
--     people integer 10: Most people
SELECT a.person_id, p.name, min(a.half_embedding <=> sought.half_embedding) AS distance
FROM appearances AS a
CROSS JOIN (
    SELECT half_embedding FROM appearances WHERE person_id = :person AND half_embedding IS NOT NULL ORDER BY quality DESC LIMIT 1
) AS sought
JOIN people AS p USING (person_id)
WHERE a.person_id <> :person
GROUP BY a.person_id, p.name
ORDER BY distance
LIMIT :people;

-- Which corrections were made, when, by whom and why?
SELECT correction_id, created_at, made_by, kind, person_id, name, appearance_count, reason, undone_at IS NULL AS holds
FROM corrections
ORDER BY correction_id DESC;

-- Which release made these rows, and how good is it?
SELECT release, active, code_version, created_at, jsonb_pretty(metrics) AS metrics
FROM releases
ORDER BY created_at DESC;
