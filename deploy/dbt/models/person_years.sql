-- In how many files each person is, by the year in which they were taken.
SELECT
    a.person_id,
    extract(YEAR FROM m.taken_at)::integer AS year,
    count(DISTINCT a.media_id) AS files,
    sum(a.screen_seconds) AS screen_seconds,
    avg(a.age) AS age
FROM {{ source('facet', 'appearances') }} AS a
JOIN {{ source('facet', 'media') }} AS m USING (media_id)
WHERE a.person_id IS NOT NULL AND m.taken_at IS NOT NULL
GROUP BY a.person_id, extract(YEAR FROM m.taken_at)
