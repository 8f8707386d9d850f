CREATE FUNCTION known_claims(streams json)
RETURNS TABLE (stream text, version integer, claim_id text, record_id text)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
    SELECT h.stream, h.version, e.claim_id, e.record_id
    FROM json_array_elements_text(streams) AS s (name)
    JOIN stream_heads h ON h.stream = s.name
    LEFT JOIN LATERAL (
        SELECT e.data ->> 'claim_id' AS claim_id, e.data ->> 'record_id' AS record_id FROM events e
        WHERE e.stream = h.stream AND e.recorded_at BETWEEN h.first_at AND h.recorded_at
          AND e.type = 'DataIngested'
    ) e ON true;
END $$;

GRANT EXECUTE ON FUNCTION known_claims(json) TO qis_app;

DROP FUNCTION take_streams(json);
