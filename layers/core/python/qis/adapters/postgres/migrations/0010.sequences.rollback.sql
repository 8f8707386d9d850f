DROP TABLE sequence_states;
