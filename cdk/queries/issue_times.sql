-- How long did issues that ended in the last 30 days stay open, by severity, and how many had to be escalated?
SELECT
    severity,
    count(*) AS issues,
    sum(CASE WHEN escalated THEN 1 ELSE 0 END) AS escalated,
    avg(minutes) AS mean_minutes,
    max(minutes) AS longest_minutes
FROM (
    SELECT DISTINCT
        id,
        data.state.severity AS severity,
        data.state.escalated AS escalated,
        date_diff(
            'minute',
            from_iso8601_timestamp(data.state.opened_at),
            from_iso8601_timestamp(data.at)
        ) AS minutes
    FROM issues
    WHERE type = 'com.qis.data.issue.closed.v1'
        AND day >= date_format(current_date - INTERVAL '30' DAY, '%Y/%m/%d')
) AS ended
GROUP BY severity
ORDER BY severity
