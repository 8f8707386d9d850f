-- The functions' role has its session settings with it: RDS Proxy refuses a connection that brings options.
-- depends: 0016.raw-batches

DO $$
DECLARE
    setting text;
BEGIN
    -- In AWS the administrator has set them before the first migration: it made the role, and nobody else may.
    FOREACH setting IN ARRAY ARRAY[
        'statement_timeout=20s',
        'idle_in_transaction_session_timeout=20s',
        'TimeZone=UTC',
        'tcp_keepalives_idle=5',
        'tcp_keepalives_interval=2',
        'tcp_keepalives_count=3',
        'tcp_user_timeout=10000',
        'plan_cache_mode=force_custom_plan'
    ] LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_db_role_setting
            WHERE setrole = 'qis_app'::regrole AND setdatabase = 0 AND setting = ANY(setconfig)
        );
        EXECUTE format('ALTER ROLE qis_app SET %s TO %L', split_part(setting, '=', 1), split_part(setting, '=', 2));
    END LOOP;
END $$;
