-- Scores by series, source and hour, kept by a follower of the log; and its windows.
-- depends: 0005.issues

CREATE TABLE quality_values (
    reference_data_id text   NOT NULL COLLATE "C",
    snap_ns           bigint NOT NULL,
    state             jsonb  NOT NULL,
    PRIMARY KEY (reference_data_id, snap_ns)
);

-- Source '' stands for the values themselves.
CREATE TABLE quality_tallies (
    reference_data_id text   NOT NULL COLLATE "C",
    source            text   NOT NULL COLLATE "C",
    hour_ns           bigint NOT NULL,
    tally             jsonb  NOT NULL,
    PRIMARY KEY (reference_data_id, source, hour_ns)
);
CREATE INDEX quality_tallies_source ON quality_tallies (source, hour_ns);

CREATE TABLE quality_windows (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    state    jsonb   NOT NULL
);

GRANT SELECT, INSERT, UPDATE ON quality_values, quality_tallies, quality_windows TO qis_app;
