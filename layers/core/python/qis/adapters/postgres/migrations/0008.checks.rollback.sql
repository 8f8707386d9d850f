DELETE FROM catalogue WHERE kind = 'check';
ALTER TABLE catalogue DROP CONSTRAINT catalogue_kind_check;
ALTER TABLE catalogue ADD CONSTRAINT catalogue_kind_check CHECK (kind IN ('series', 'source', 'rules'));
