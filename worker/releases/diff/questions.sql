-- Questions of docs/sql.md that a comparison of releases asks under both; a test holds them to the page.

-- Which faces were detected but dropped?
SELECT coalesce(dropped_reason, '(kept)') AS outcome, count(*) AS faces,
       round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent
FROM faces
GROUP BY dropped_reason
ORDER BY faces DESC;

-- How long are women and men on screen in each video?
SELECT m.uri, a.gender, round(sum(a.screen_seconds)::numeric, 1) AS seconds,
       round(100 * (sum(a.screen_seconds) / sum(sum(a.screen_seconds)) OVER (PARTITION BY m.uri))::numeric, 1) AS percent
FROM appearances AS a
JOIN media AS m USING (media_id)
WHERE m.kind = 'video'
GROUP BY m.uri, a.gender
ORDER BY m.uri, seconds DESC;

-- What share of the women in a video is over 60?
SELECT m.uri, count(*) AS women, count(*) FILTER (WHERE a.age > 60) AS over_60,
       round(100.0 * count(*) FILTER (WHERE a.age > 60) / count(*), 1) AS percent
FROM appearances AS a
JOIN media AS m USING (media_id)
WHERE a.gender = 'female' AND a.age IS NOT NULL
GROUP BY m.uri
ORDER BY percent DESC, m.uri;

-- How old are the faces of each year of the archive?
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

-- Which emotions make up a video?
SELECT m.uri, e.key AS emotion,
       round((sum(e.value::real * a.face_count) / sum(a.face_count))::numeric, 3) AS share
FROM appearances AS a
JOIN media AS m USING (media_id)
CROSS JOIN LATERAL jsonb_each(a.emotions) AS e
WHERE m.kind = 'video'
GROUP BY m.uri, e.key
ORDER BY m.uri, share DESC;

-- Who is in the most files?
SELECT person_id, name, gender, round(age::numeric) AS age, media_count, appearance_count,
       round(screen_seconds::numeric, 1) AS screen_seconds
FROM people
ORDER BY media_count DESC, face_count DESC
LIMIT 20;

-- Which image shows the largest group?
SELECT m.uri, count(*) AS people
FROM faces AS f
JOIN media AS m USING (media_id)
WHERE m.kind = 'image' AND f.dropped_reason IS NULL
GROUP BY m.media_id, m.uri
ORDER BY people DESC
LIMIT 10;

-- In which minute of a video are the most people in view?
SELECT m.uri, c.minute, c.people_in_view
FROM media AS m
JOIN (
    SELECT media_id, floor(at_seconds / 60)::int AS minute, count(DISTINCT appearance_id) AS people_in_view
    FROM faces
    GROUP BY media_id, minute
) AS c USING (media_id)
WHERE m.kind = 'video'
ORDER BY c.people_in_view DESC, m.uri, c.minute
LIMIT 10;
