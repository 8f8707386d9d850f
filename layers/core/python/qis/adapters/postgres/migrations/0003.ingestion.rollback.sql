DROP TABLE quality_facts, receipts, ingest_outcomes, loads;
