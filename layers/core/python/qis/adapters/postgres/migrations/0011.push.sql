-- Open connections of the push channel, how far each has been told, and what each asked for.
-- depends: 0010.sequences

CREATE TABLE push_connections (
    connection_id text        PRIMARY KEY COLLATE "C",
    subject       text        NOT NULL,
    expires_at    timestamptz NOT NULL,
    told_at       timestamptz NOT NULL, -- of the last message
    tx            xid8, -- null: nothing was asked for yet
    position      bigint,
    CHECK ((tx IS NULL) = (position IS NULL))
-- Every delivery moves the place: with room on the page it touches no index.
) WITH (fillfactor = 70);

CREATE TABLE push_subscriptions (
    key           text NOT NULL COLLATE "C",
    connection_id text NOT NULL COLLATE "C" REFERENCES push_connections ON DELETE CASCADE,
    PRIMARY KEY (key, connection_id) -- who listens to a value is found by its keys
);
CREATE INDEX push_subscriptions_of ON push_subscriptions (connection_id);

-- Every key under which a value of a series finds its listeners: see qis.domain.subscriptions.
CREATE FUNCTION push_keys(series text) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ARRAY['series:' || series, 'pattern:*']
        || ARRAY(SELECT 'pattern:' || left(series, n) || '*' FROM generate_series(2, length(series)) n
                 WHERE substr(series, n, 1) = '.')
        || ARRAY(SELECT 'group:' || (definition ->> 'rules') FROM catalogue
                 WHERE kind = 'series' AND name = series)
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON push_connections, push_subscriptions TO qis_app;
