-- The append-only event log, the heads of its streams, its followers and the aggregates' snapshots.
-- depends:

CREATE TABLE events (
    tx             xid8        NOT NULL DEFAULT pg_current_xact_id(),
    position       bigint      GENERATED ALWAYS AS IDENTITY,
    recorded_at    timestamptz NOT NULL,
    event_id       uuid        NOT NULL,
    stream         text        NOT NULL COLLATE "C",
    version        integer     NOT NULL CHECK (version > 0),
    type           text        NOT NULL COLLATE "C",
    type_version   smallint    NOT NULL,
    actor          text        NOT NULL,
    correlation_id text        NOT NULL,
    causation_id   uuid,
    data           jsonb       NOT NULL,
    -- The order in which followers read. A key of a partitioned table must hold the partition column;
    -- (stream, version) therefore cannot be unique here and is guarded by stream_heads instead.
    PRIMARY KEY (tx, position, recorded_at)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX events_stream ON events (stream, version);

-- Catches what no month has; a row here means that partitions were not made in time, and alarms.
CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE TABLE stream_heads (
    stream      text        PRIMARY KEY COLLATE "C",
    version     integer     NOT NULL,
    -- First and last event, so that reading a stream touches only the partitions that hold it.
    first_at    timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL
);

CREATE TABLE followers (
    name       text        PRIMARY KEY,
    tx         xid8        NOT NULL,
    position   bigint      NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE stream_snapshots (
    stream     text        PRIMARY KEY COLLATE "C",
    version    integer     NOT NULL,
    state      jsonb       NOT NULL,
    taken_at   timestamptz NOT NULL
);

-- Makes the monthly partitions from this month to `ahead` months on. Owner's rights, so that the
-- functions need no right to create tables. Returns how many it made.
CREATE FUNCTION ensure_event_partitions(moment timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    first date;
    since timestamptz;
    until timestamptz;
    name  text;
    made  integer := 0;
BEGIN
    IF ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'ahead must be 0 to 24 months, not %', ahead;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ensure_event_partitions'));
    FOR i IN 0..ahead LOOP
        first := (date_trunc('month', moment AT TIME ZONE 'UTC') + make_interval(months => i))::date;
        name := 'events_' || to_char(first, 'YYYY_MM');
        IF to_regclass('public.' || name) IS NULL THEN
            since := first::timestamp AT TIME ZONE 'UTC';
            until := (first + interval '1 month')::timestamp AT TIME ZONE 'UTC';
            -- A month cannot be made while the default partition holds events of it: they move over.
            LOCK TABLE public.events_default IN ACCESS EXCLUSIVE MODE;
            CREATE TEMPORARY TABLE caught ON COMMIT DROP AS
                SELECT * FROM public.events_default WHERE recorded_at >= since AND recorded_at < until;
            DELETE FROM public.events_default WHERE recorded_at >= since AND recorded_at < until;
            EXECUTE format(
                'CREATE TABLE public.%I PARTITION OF public.events FOR VALUES FROM (%L) TO (%L)',
                name, since, until
            );
            INSERT INTO public.events OVERRIDING SYSTEM VALUE SELECT * FROM pg_temp.caught;
            DROP TABLE pg_temp.caught;
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

DO $$ BEGIN PERFORM ensure_event_partitions(now(), 3); END $$;
