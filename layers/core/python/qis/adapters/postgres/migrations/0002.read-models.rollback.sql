DROP TABLE catalogue_revision, catalogue, exceptions, decisions, official_values;
