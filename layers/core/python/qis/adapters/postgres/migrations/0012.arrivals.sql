-- Volumes beside what each source said, and the order in which the claims of each series came. Both are derived
-- from the log.
-- depends: 0011.push

ALTER TABLE quality_facts ADD COLUMN volumes jsonb; -- null: no source gave one

CREATE TABLE arrival_states (
    reference_data_id text  PRIMARY KEY COLLATE "C",
    state             jsonb NOT NULL
);

GRANT SELECT, INSERT, UPDATE ON arrival_states TO qis_app;
