-- How long women and men are in view in each video.
SELECT
    a.media_id,
    a.gender,
    count(*) AS appearances,
    count(DISTINCT a.person_id) AS people,
    sum(a.screen_seconds) AS screen_seconds,
    sum(a.screen_seconds) / nullif(sum(sum(a.screen_seconds)) OVER (PARTITION BY a.media_id), 0) AS share
FROM {{ source('facet', 'appearances') }} AS a
JOIN {{ source('facet', 'media') }} AS m USING (media_id)
WHERE m.kind = 'video' AND a.gender IS NOT NULL
GROUP BY a.media_id, a.gender
