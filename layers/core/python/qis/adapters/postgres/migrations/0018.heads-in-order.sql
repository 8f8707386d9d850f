-- Heads move in one pass by ascending name, new ones among the others, as they do where claims take them.
-- depends: 0017.session-settings

-- Each head moves on by the events that are to be appended, whatever its version, and is locked by that. Those
-- that were not where they were expected have lost: they are set back, and go where nobody had made them.
-- A head that was left at version 0 is as good as none.
--
-- The first row has no stream and tells the moment of recording, taken after the transaction has its id. A
-- stream's own is later where the clock was set back: an event must not lie before its predecessor.
CREATE OR REPLACE FUNCTION move_heads(moves json)
RETURNS TABLE (stream text, recorded_at timestamptz)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    names text[];
    versions integer[];
    moments timestamptz[];
    expected integer[];
    wanted integer[];
    lost json;
    lost_versions json;
BEGIN
    PERFORM pg_current_xact_id();
    moment := clock_timestamp();
    RETURN QUERY SELECT NULL, moment;

    -- The start of a stream only prunes partitions; an hour's slack is for clocks that step back.
    WITH moved AS (
        INSERT INTO stream_heads AS h (stream, version, first_at, recorded_at)
        SELECT m.stream, m.moved - m.expected, moment - interval '1 hour', moment
        FROM json_to_recordset(moves) AS m (stream text, expected integer, moved integer)
        ON CONFLICT (stream) DO UPDATE SET version = h.version + excluded.version,
            recorded_at = greatest(moment, h.recorded_at + interval '1 microsecond')
        RETURNING h.stream, h.version, h.recorded_at
    )
    SELECT array_agg(stream ORDER BY stream), array_agg(version ORDER BY stream),
        array_agg(recorded_at ORDER BY stream)
    INTO names, versions, moments FROM moved;

    -- By the same order as the heads, so that the lists fit each other.
    SELECT array_agg(m.expected ORDER BY m.stream COLLATE "C"), array_agg(m.moved ORDER BY m.stream COLLATE "C")
    INTO expected, wanted FROM json_to_recordset(moves) AS m (stream text, expected integer, moved integer);

    RETURN QUERY
    SELECT t.stream, t.recorded_at
    FROM unnest(names, versions, moments, wanted) AS t (stream, version, recorded_at, wanted)
    WHERE t.version = t.wanted;

    SELECT json_agg(t.stream), json_agg(t.version - (t.wanted - t.expected)) INTO lost, lost_versions
    FROM unnest(names, versions, expected, wanted) AS t (stream, version, expected, wanted)
    WHERE t.version <> t.wanted;
    IF lost IS NOT NULL THEN
        PERFORM give_back_streams(lost, lost_versions);
    END IF;
END $$;
