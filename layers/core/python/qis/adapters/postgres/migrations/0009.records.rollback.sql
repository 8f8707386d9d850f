DELETE FROM official_values WHERE record IS NOT NULL;
ALTER TABLE official_values DROP CONSTRAINT official_values_one_form;
ALTER TABLE official_values DROP COLUMN record;
ALTER TABLE official_values ALTER COLUMN value SET NOT NULL;
