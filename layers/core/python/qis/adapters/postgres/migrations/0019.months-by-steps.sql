-- Months of the log are made in steps that never hold it for long, however many events wait in the default partition.
-- depends: 0015.months-without-deadlock

-- The ranges of the partitions of months, which hold one month each, or several.
CREATE FUNCTION event_partitions() RETURNS TABLE (partition text, since timestamptz, until timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
    SELECT c.relname::text, found[1]::timestamptz, found[2]::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
        regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$FROM \('([^']+)'\) TO \('([^']+)'\)$re$) AS found
    WHERE i.inhparent = 'public.events'::regclass AND found IS NOT NULL
$$;

-- Does the next step towards partitions for this month and `ahead` months on, and says what it did; null: there
-- is nothing to do. Each step is a transaction of its own; call it until there is none.
--
-- While the default partition is empty, a step makes the first month that is missing. While it is not, no month
-- of its events can be made beside it, and moving them would take time in proportion to them. So the table itself
-- becomes the partition of the months that it holds, and a new, empty one becomes the default: first a check says
-- what it may hold from now on, then the check is validated, which blocks nobody, then the tables change places.
-- A validated check spares the server the scan of either table, so that what is locked is locked for an instant.
-- Whoever waits for the whole log lets nobody pass, so a lock that is not to be had at once is given up.
--
-- Owner's rights, so that the functions need no right to make tables.
CREATE FUNCTION next_event_partition(moment timestamptz, ahead integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET lock_timeout = '100ms'
SET timezone = 'UTC' AS $$
DECLARE
    oldest timestamptz;
    newest timestamptz;
    range_from timestamptz;
    range_to timestamptz;
    bound text;
    name text;
    checked boolean;
BEGIN
    IF ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'ahead must be 0 to 24 months, not %', ahead;
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('next_event_partition')) THEN
        RETURN NULL;  -- somebody else does it
    END IF;

    SELECT convalidated, pg_get_constraintdef(oid) INTO checked, bound FROM pg_constraint
    WHERE conrelid = 'public.events_default'::regclass AND conname = 'events_default_months';

    IF checked IS NULL AND EXISTS (SELECT FROM public.events_default) THEN
        SELECT min(recorded_at), max(recorded_at) INTO oldest, newest FROM public.events_default;
        range_from := date_trunc('month', oldest);
        -- Up to the next partition; where there is none, up to the end of the month after this one, so that
        -- what is recorded until the last step has a place.
        SELECT min(p.since) INTO range_to FROM event_partitions() p WHERE p.since > range_from;
        range_to := coalesce(range_to, date_trunc('month', greatest(moment, newest)) + interval '2 months');
        IF newest >= range_to THEN
            RAISE EXCEPTION 'the default partition holds events on both sides of the month %', range_to
                USING HINT = 'detach that partition, or move the later events away';
        END IF;
        EXECUTE format(
            'ALTER TABLE public.events_default ADD CONSTRAINT events_default_months'
            ' CHECK (recorded_at IS NOT NULL AND recorded_at >= %L AND recorded_at < %L) NOT VALID',
            range_from, range_to
        );
        RETURN 'default partition bounded';
    ELSIF NOT checked THEN
        ALTER TABLE public.events_default VALIDATE CONSTRAINT events_default_months;
        RETURN 'default partition checked';
    ELSIF checked THEN
        SELECT m.bounds[1]::timestamptz, m.bounds[2]::timestamptz INTO range_from, range_to
        FROM regexp_match(bound, $re$>= '([^']+)'.*< '([^']+)'$re$) AS m (bounds);
        name := 'events_' || to_char(range_from, 'YYYY_MM');
        IF range_to > range_from + interval '1 month' THEN
            name := name || '_to_' || to_char(range_to - interval '1 day', 'YYYY_MM');
        END IF;
        -- The whole before its parts, as everybody locks them.
        LOCK TABLE ONLY public.events IN ACCESS EXCLUSIVE MODE;
        LOCK TABLE public.events_default IN ACCESS EXCLUSIVE MODE;
        ALTER TABLE public.events DETACH PARTITION public.events_default;
        EXECUTE format('ALTER TABLE public.events_default RENAME TO %I', name);
        EXECUTE format(
            'ALTER TABLE public.events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            name, range_from, range_to
        );
        EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT events_default_months', name);
        EXECUTE format('REVOKE ALL ON public.%I FROM qis_app', name);
        CREATE TABLE public.events_default PARTITION OF public.events DEFAULT;
        GRANT SELECT ON public.events_default TO qis_app;
        RETURN name;
    END IF;

    FOR i IN 0..ahead LOOP
        range_from := date_trunc('month', moment) + make_interval(months => i);
        range_to := range_from + interval '1 month';
        IF NOT EXISTS (SELECT FROM event_partitions() p WHERE p.since <= range_from AND p.until > range_from) THEN
            name := 'events_' || to_char(range_from, 'YYYY_MM');
            LOCK TABLE ONLY public.events IN ACCESS EXCLUSIVE MODE;
            EXECUTE format(
                'CREATE TABLE public.%I PARTITION OF public.events FOR VALUES FROM (%L) TO (%L)',
                name, range_from, range_to
            );
            RETURN name;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION next_event_partition(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION next_event_partition(timestamptz, integer) TO qis_app;

-- For functions of the version before, which run beside those of this one while it is deployed.
CREATE OR REPLACE FUNCTION ensure_event_partitions(moment timestamptz, ahead integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT (next_event_partition(moment, ahead) IS NOT NULL)::integer
$$;
