-- Raw payloads on their way: stored with the claims that they hold, until they are moved to the raw store.
-- depends: 0014.taking-streams

CREATE TABLE raw_batches (
    address text        PRIMARY KEY COLLATE "C",
    body    bytea       NOT NULL,
    kept_at timestamptz NOT NULL
);

-- It is compressed already.
ALTER TABLE raw_batches ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX raw_batches_kept_at ON raw_batches (kept_at);

GRANT SELECT, INSERT, DELETE ON raw_batches TO qis_app;
