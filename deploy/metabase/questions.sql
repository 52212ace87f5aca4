-- Questions for Metabase: paste each into a new SQL query and save it under its title (docs/dashboards.md).
-- {{name}} is a variable of Metabase; [[ ]] is left out where its variable is empty.

-- Files by state and month
-- Bar chart: month, stacked by state.
SELECT date_trunc('month', submitted_at) AS month, status AS state, count(*) AS files
FROM facet.media
GROUP BY 1, 2
ORDER BY 1, 2;

-- Why files were not analysed
-- Table.
SELECT split_part(reason, ':', 1) AS code, count(*) AS files, min(uri) AS example
FROM facet.media
WHERE status IN ('rejected', 'quarantined')
GROUP BY 1
ORDER BY files DESC;

-- Age and gender
-- Bar chart: years, stacked by gender. Variable kind (text): image or video.
SELECT 10 * floor(a.age / 10)::integer AS years, a.gender, count(*) AS appearances
FROM facet.appearances AS a
JOIN facet.media AS m USING (media_id)
WHERE a.age IS NOT NULL AND a.gender IS NOT NULL [[AND m.kind = {{kind}}]]
GROUP BY 1, 2
ORDER BY 1, 2;

-- Time on screen in each video
-- Stacked bar chart: video, by gender.
SELECT regexp_replace(m.uri, '.*/', '') AS video, a.gender, sum(a.screen_seconds) AS seconds
FROM facet.appearances AS a
JOIN facet.media AS m USING (media_id)
WHERE m.kind = 'video'
GROUP BY m.media_id, m.uri, a.gender
ORDER BY sum(sum(a.screen_seconds)) OVER (PARTITION BY m.media_id) DESC, m.media_id, a.gender
LIMIT 100;

-- People in the most files
-- Table. Variable name (text): a part of the name.
SELECT person_id, name, media_count AS files, appearance_count AS appearances, screen_seconds, round(age) AS age, gender
FROM facet.people
WHERE true [[AND name ILIKE '%' || {{name}} || '%']]
ORDER BY files DESC, person_id
LIMIT 100;

-- Where a person is seen
-- Table. Variable person (number): the number of a person; without it, the person in the most files.
SELECT m.uri, m.taken_at, a.start_seconds, a.end_seconds, a.age, a.emotion
FROM facet.appearances AS a
JOIN facet.media AS m USING (media_id)
WHERE a.person_id = coalesce(
    [[{{person}},]]
    (SELECT p.person_id FROM facet.people AS p ORDER BY p.media_count DESC, p.person_id LIMIT 1)
)
ORDER BY m.uri, a.start_seconds
LIMIT 1000;

-- Faces of each year of the archive
-- Line chart: year, with age and share of women.
SELECT extract(YEAR FROM m.taken_at)::integer AS year, count(*) AS appearances, avg(a.age) AS age,
       avg((a.gender = 'female')::integer) FILTER (WHERE a.gender IN ('female', 'male')) AS share_of_women
FROM facet.appearances AS a
JOIN facet.media AS m USING (media_id)
WHERE m.taken_at IS NOT NULL
GROUP BY 1
ORDER BY 1;
