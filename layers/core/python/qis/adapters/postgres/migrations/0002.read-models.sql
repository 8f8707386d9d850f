-- Read models that are written in the transaction of the events they follow from.
-- depends: 0001.event-log

-- Bitemporal: snap says when a value was true, [recorded_from, superseded_at) when it was known.
CREATE TABLE official_values (
    reference_data_id text        NOT NULL COLLATE "C",
    snap_ns           bigint      NOT NULL,
    recorded_from     timestamptz NOT NULL,
    superseded_at     timestamptz, -- null: this is the current value
    snap              timestamptz NOT NULL,
    value             numeric     NOT NULL,
    version           integer     NOT NULL,
    event_id          uuid        NOT NULL,
    tx                xid8        NOT NULL,
    position          bigint      NOT NULL,
    superseded_tx       xid8,
    superseded_position bigint,
    details           jsonb       NOT NULL,
    CHECK (recorded_from < superseded_at),
    -- One index serves latest and as-of alike: both walk it backwards from the asked moment.
    PRIMARY KEY (reference_data_id, snap_ns, recorded_from)
);
CREATE UNIQUE INDEX official_values_current ON official_values (reference_data_id, snap_ns)
    WHERE superseded_at IS NULL;

-- What reconciliation last came to for each snap; the references of the neighbouring snaps.
CREATE TABLE decisions (
    reference_data_id text    NOT NULL COLLATE "C",
    snap_ns           bigint  NOT NULL,
    status            text    NOT NULL,
    value             numeric,
    PRIMARY KEY (reference_data_id, snap_ns)
);

-- The exception queue: values waiting for a second person, and what became of them.
CREATE TABLE exceptions (
    issue_id          uuid        PRIMARY KEY,
    reference_data_id text        NOT NULL COLLATE "C",
    snap_ns           bigint      NOT NULL,
    status            text        NOT NULL CHECK (status IN ('open', 'approved', 'rejected', 'resolved')),
    opened_at         timestamptz NOT NULL,
    closed_at         timestamptz,
    closed_by         text,
    details           jsonb       NOT NULL
);
CREATE INDEX exceptions_queue ON exceptions (status, opened_at, issue_id);

-- Registered series, sources and rule sets in their newest version.
CREATE TABLE catalogue (
    kind       text        NOT NULL CHECK (kind IN ('series', 'source', 'rules')),
    name       text        NOT NULL COLLATE "C",
    version    integer     NOT NULL,
    definition jsonb       NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
);
-- Bumped with every change of the catalogue, so that a function knows when to read it again.
CREATE TABLE catalogue_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint  NOT NULL
);
INSERT INTO catalogue_revision (revision) VALUES (0);
