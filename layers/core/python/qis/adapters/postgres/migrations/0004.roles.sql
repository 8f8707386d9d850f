-- The functions' role: reads and appends; may not change or delete an event, nor touch the schema.
-- depends: 0003.ingestion

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qis_app') THEN
        CREATE ROLE qis_app LOGIN;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
        GRANT rds_iam TO qis_app;
    END IF;
END $$;

GRANT USAGE ON SCHEMA public TO qis_app;
GRANT SELECT, INSERT ON events, receipts TO qis_app;
GRANT SELECT, INSERT, UPDATE ON stream_heads, followers, stream_snapshots, official_values, decisions,
    exceptions, catalogue, catalogue_revision, loads, quality_facts TO qis_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ingest_outcomes TO qis_app;
GRANT SELECT ON events_default TO qis_app;
GRANT EXECUTE ON FUNCTION ensure_event_partitions(timestamptz, integer) TO qis_app;
