-- Which series were corrected in the last 30 days, how often, why, and by how much at most?
-- Delivery repeats, so events are counted by their id.
SELECT
    data.reference_data_id AS series,
    data.cause AS cause,
    count(DISTINCT id) AS corrections,
    max(abs(
        try_cast(data.after.value AS decimal(38, 12)) - try_cast(data.before.value AS decimal(38, 12))
    )) AS largest_change,
    max(time) AS last_at
FROM official_values
WHERE type = 'com.qis.data.restated.v1'
    AND day >= date_format(current_date - INTERVAL '30' DAY, '%Y/%m/%d')
GROUP BY data.reference_data_id, data.cause
ORDER BY corrections DESC, series, cause
