-- The two questions that every batch of claims asks: what its streams hold, and whether they stood still.
-- depends: 0004.roles

-- Functions, because their plans are made once a session and must be right at any size: by key, one probe a
-- stream. Planned anew for each batch they cost more than they read, and while the tables are small the
-- planner prefers to read all the heads.
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

-- Moves heads that are where they are expected, and makes those expected at 0; the others have lost and are
-- left out. To be given in the order of their names, so that two batches cannot deadlock: with these
-- settings rows are locked as they come, and a lost wait checks the version again before it moves anything.
-- The first row has no stream and tells the moment of recording, taken after the transaction has its id. A
-- stream's own is later where the clock was set back: an event must not lie before its predecessor.
CREATE FUNCTION move_heads(moves json)
RETURNS TABLE (stream text, recorded_at timestamptz)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    moment := clock_timestamp();
    RETURN QUERY SELECT NULL, moment;

    -- The start of a stream only prunes partitions; an hour's slack is for clocks that step back.
    RETURN QUERY
    INSERT INTO stream_heads AS h (stream, version, first_at, recorded_at)
    SELECT m.stream, m.moved, moment - interval '1 hour', moment
    FROM json_to_recordset(moves) AS m (stream text, expected integer, moved integer)
    WHERE m.expected = 0
    ON CONFLICT (stream) DO NOTHING RETURNING h.stream, h.recorded_at;

    RETURN QUERY
    UPDATE stream_heads h
    SET version = m.moved, recorded_at = greatest(moment, h.recorded_at + interval '1 microsecond')
    FROM json_to_recordset(moves) AS m (stream text, expected integer, moved integer)
    WHERE h.stream = m.stream AND h.version = m.expected AND m.expected > 0
    RETURNING h.stream, h.recorded_at;
END $$;

GRANT EXECUTE ON FUNCTION move_heads(json) TO qis_app;
