-- What was official for one series at one snap, as known at a moment? Parameters: series, snap, moment.
SELECT
    data.value AS value,
    data.official_version AS official_version,
    time AS known_since,
    data.method AS method,
    data.cause AS cause
FROM official_values
WHERE data.reference_data_id = ?
    AND data.snap = ?
    AND from_iso8601_timestamp(time) <= from_iso8601_timestamp(?)
ORDER BY data.official_version DESC
LIMIT 1
