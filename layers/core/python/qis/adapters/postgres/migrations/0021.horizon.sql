-- Who holds up the followers of the log, and an end to it.
-- depends: 0016.raw-batches

-- Followers read below the oldest transaction that is running and has a number, in whatever database of the
-- server. This names it. Owner's rights, since a role sees of others only that they are there: the owner needs
-- pg_read_all_stats. Nothing of a query is told, which may hold data.
CREATE FUNCTION horizon_holder()
RETURNS TABLE (
    transaction_id text, pid integer, database text, role text, application text, client text, state text,
    seconds double precision
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    WITH horizon AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS id)
    SELECT id::text, a.pid, a.datname::text, a.usename::text, a.application_name, host(a.client_addr), a.state,
        extract(epoch FROM clock_timestamp() - a.xact_start)::double precision
    FROM horizon JOIN pg_stat_activity a ON a.backend_xid = id::xid
    UNION ALL
    SELECT id::text, NULL, p.database::text, p.owner::text, p.gid, NULL, 'prepared',
        extract(epoch FROM clock_timestamp() - p.prepared)::double precision
    FROM horizon JOIN pg_prepared_xacts p ON p.transaction = id::xid
$$;

REVOKE EXECUTE ON FUNCTION horizon_holder() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION horizon_holder() TO qis_app;

-- Ends the session that holds followers up, if it still is the one named and has done so for that long. The
-- owner needs pg_signal_backend, which ends no session of a superuser.
CREATE FUNCTION end_horizon_holder(transaction_id text, at_least_seconds integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    holder record;
BEGIN
    SELECT * INTO holder FROM horizon_holder() h
    WHERE h.transaction_id = end_horizon_holder.transaction_id AND h.pid IS NOT NULL
        AND h.seconds >= at_least_seconds;
    RETURN FOUND AND pg_terminate_backend(holder.pid);
END $$;

REVOKE EXECUTE ON FUNCTION end_horizon_holder(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION end_horizon_holder(text, integer) TO qis_app;
