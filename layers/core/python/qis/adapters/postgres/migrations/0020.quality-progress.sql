-- How far the scheduled work of an hour has come, so that a run that is cut short is taken up where it ended.
-- depends: 0016.raw-batches

-- Null: all of the hour is done, as it is of all hours that were begun before.
ALTER TABLE quality_runs ADD COLUMN reached text COLLATE "C";
