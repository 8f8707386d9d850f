-- What became of every delivered record, and the receipts of REST requests.
-- depends: 0002.read-models

-- A load is a set of records with one correlation id: a file, a REST request, a feed's day.
CREATE TABLE loads (
    load_id    text        PRIMARY KEY COLLATE "C",
    accepted   bigint      NOT NULL DEFAULT 0,
    duplicates bigint      NOT NULL DEFAULT 0,
    rejected   bigint      NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Records that led to no event: duplicates and rejections. (Accepted ones are the DataIngested events.)
CREATE TABLE ingest_outcomes (
    record_id   text        PRIMARY KEY COLLATE "C",
    load_id     text        NOT NULL COLLATE "C",
    outcome     text        NOT NULL CHECK (outcome IN ('duplicate', 'rejected')),
    claim_id    uuid,
    violations  jsonb,
    payload     bytea,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX ingest_outcomes_load ON ingest_outcomes (load_id, outcome);

CREATE TABLE receipts (
    receipt         uuid        PRIMARY KEY,
    actor           text        NOT NULL,
    idempotency_key text,
    request_hash    bytea       NOT NULL,
    answer          json        NOT NULL, -- json, not jsonb: a repeated request gets the first answer as it was
    created_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX receipts_idempotency ON receipts (actor, idempotency_key);

-- What each source said per snap, kept by the quality function; stale and missing values are found here.
CREATE TABLE quality_facts (
    reference_data_id text   NOT NULL COLLATE "C",
    snap_ns           bigint NOT NULL,
    tx                xid8   NOT NULL,
    position          bigint NOT NULL,
    status            text   NOT NULL,
    claims            jsonb  NOT NULL,
    PRIMARY KEY (reference_data_id, snap_ns)
);
