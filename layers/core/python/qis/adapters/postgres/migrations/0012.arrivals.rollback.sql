DROP TABLE arrival_states;
ALTER TABLE quality_facts DROP COLUMN volumes;
