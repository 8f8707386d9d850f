-- How many official values of the last 7 days rest on each source, day by day?
SELECT
    day,
    used.source AS source,
    count(DISTINCT id) AS official_values
FROM official_values
CROSS JOIN UNNEST(data.sources) AS used (source)
WHERE day >= date_format(current_date - INTERVAL '7' DAY, '%Y/%m/%d')
GROUP BY day, used.source
ORDER BY day, source
