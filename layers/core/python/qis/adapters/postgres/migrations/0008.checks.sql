-- Business rules are a kind of definition.
-- depends: 0007.detector-states

ALTER TABLE catalogue DROP CONSTRAINT catalogue_kind_check;
ALTER TABLE catalogue ADD CONSTRAINT catalogue_kind_check
    CHECK (kind IN ('series', 'source', 'rules', 'check'));
