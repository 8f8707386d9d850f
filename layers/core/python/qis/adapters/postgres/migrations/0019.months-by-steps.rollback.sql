CREATE OR REPLACE FUNCTION ensure_event_partitions(moment timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET lock_timeout = '500ms' AS $$
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
            LOCK TABLE ONLY public.events IN ACCESS EXCLUSIVE MODE;
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

DROP FUNCTION next_event_partition(timestamptz, integer), event_partitions();
