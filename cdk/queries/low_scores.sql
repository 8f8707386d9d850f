-- Which series had the lowest mean quality in the last 7 days, over how many values?
SELECT
    series,
    avg(composite) AS mean_quality,
    min(composite) AS worst,
    count(*) AS official_values
FROM (
    SELECT DISTINCT
        id,
        data.reference_data_id AS series,
        try_cast(data.quality.composite AS decimal(10, 4)) AS composite
    FROM official_values
    WHERE day >= date_format(current_date - INTERVAL '7' DAY, '%Y/%m/%d')
) AS scored
WHERE composite IS NOT NULL
GROUP BY series
ORDER BY mean_quality, series
LIMIT 50
