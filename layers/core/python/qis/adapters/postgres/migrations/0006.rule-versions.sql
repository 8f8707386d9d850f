-- Every version of every rule document, because which one applies depends on the snap; and what decisions
-- leave of the standing of their sources.
-- depends: 0005.batches-of-claims

CREATE TABLE rule_versions (
    name       text    NOT NULL COLLATE "C",
    version    integer NOT NULL,
    definition jsonb   NOT NULL,
    PRIMARY KEY (name, version)
);
INSERT INTO rule_versions (name, version, definition)
SELECT data ->> 'rules', version, data FROM events WHERE type = 'RulesChanged';

ALTER TABLE decisions ADD COLUMN standings jsonb; -- null: the rules exclude no source

GRANT SELECT, INSERT, UPDATE ON rule_versions TO qis_app;
