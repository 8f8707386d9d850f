ALTER TABLE quality_runs DROP COLUMN reached;
