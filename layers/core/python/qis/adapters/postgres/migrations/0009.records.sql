-- Official values that are records (options chains, corporate actions, curves, matrices, free JSON).
-- depends: 0008.checks

ALTER TABLE official_values ALTER COLUMN value DROP NOT NULL;
ALTER TABLE official_values ADD COLUMN record jsonb; -- null: the value is a number
-- Not checked against the rows that are there, which all have a number, so that no scan holds up writers.
ALTER TABLE official_values ADD CONSTRAINT official_values_one_form CHECK (num_nonnulls(value, record) = 1)
    NOT VALID;
