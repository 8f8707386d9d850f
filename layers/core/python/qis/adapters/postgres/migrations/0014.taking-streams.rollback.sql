ALTER TABLE stream_heads RESET (fillfactor);

DROP FUNCTION give_back_streams(json, json);

DROP FUNCTION take_streams(json, json);

-- Moves the head of each stream on by the claims that want to enter it, and tells what it held. A stream is
-- locked from here to the end of the transaction, so what is told stays true: whoever comes second waits, and
-- sees what the first stored. Streams are taken in the order given; all who take any go by ascending name.
--
-- The first row has no stream and tells the moment of recording, taken after the transaction has its id. Then
-- comes a row for each claim that a stream held, or one without claim, and with them the stream's version and
-- moment as they are now. A stream without a row was made: it stands at version 1, at the moment of the first
-- row. (At version 1 with at least one claim on its way, it held nothing.)
CREATE FUNCTION take_streams(wanted json)
RETURNS TABLE (stream text, version integer, recorded_at timestamptz, claim_id text, record_id text)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    names text[];
    versions integer[];
    firsts timestamptz[];
    moments timestamptz[];
BEGIN
    PERFORM pg_current_xact_id();
    moment := clock_timestamp();
    RETURN QUERY SELECT NULL, NULL::integer, moment, NULL, NULL;

    -- The start of a stream only prunes partitions; an hour's slack is for clocks that step back.
    WITH taken AS (
        INSERT INTO stream_heads AS h (stream, version, first_at, recorded_at)
        SELECT w.stream, w.claims, moment - interval '1 hour', moment
        FROM json_to_recordset(wanted) AS w (stream text, claims integer)
        ON CONFLICT (stream) DO UPDATE SET version = h.version + excluded.version,
            recorded_at = greatest(moment, h.recorded_at + interval '1 microsecond')
        RETURNING h.stream, h.version, h.first_at, h.recorded_at
    )
    SELECT array_agg(stream), array_agg(version), array_agg(first_at), array_agg(recorded_at)
    INTO names, versions, firsts, moments FROM taken WHERE version > 1;

    -- A statement of its own, so that it sees what was committed while the one before waited.
    RETURN QUERY
    SELECT t.stream, t.version, t.recorded_at, e.claim_id, e.record_id
    FROM unnest(names, versions, firsts, moments) AS t (stream, version, first_at, recorded_at)
    LEFT JOIN LATERAL (
        SELECT e.data ->> 'claim_id' AS claim_id, e.data ->> 'record_id' AS record_id FROM events e
        WHERE e.stream = t.stream AND e.recorded_at BETWEEN t.first_at AND t.recorded_at
          AND e.type = 'DataIngested'
    ) e ON true;
END $$;

GRANT EXECUTE ON FUNCTION take_streams(json) TO qis_app;
