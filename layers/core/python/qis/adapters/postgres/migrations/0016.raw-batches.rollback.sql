DROP TABLE raw_batches;
