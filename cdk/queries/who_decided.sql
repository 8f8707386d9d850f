-- Which people and machines decided what in the last 30 days? What the product itself does is left out.
SELECT
    actor,
    type,
    count(DISTINCT event_id) AS decisions,
    min(recorded_at) AS first_at,
    max(recorded_at) AS last_at
FROM audit
WHERE actor NOT LIKE 'qis:%'
    AND day >= date_format(current_date - INTERVAL '30' DAY, '%Y/%m/%d')
GROUP BY actor, type
ORDER BY actor, type
