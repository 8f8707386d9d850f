CREATE OR REPLACE FUNCTION move_heads(moves json)
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
