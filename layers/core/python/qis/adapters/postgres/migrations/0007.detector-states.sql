-- What the detectors know of each series after some of its snaps. Derived from quality_facts: may be emptied.
-- depends: 0006.scoreboard

CREATE TABLE detector_states (
    reference_data_id text   NOT NULL COLLATE "C",
    snap_ns           bigint NOT NULL,
    state             text   NOT NULL,
    -- Whether it stays when later states are kept.
    mark              boolean NOT NULL,
    PRIMARY KEY (reference_data_id, snap_ns)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON detector_states TO qis_app;
