ALTER TABLE decisions DROP COLUMN standings;
DROP TABLE rule_versions;
