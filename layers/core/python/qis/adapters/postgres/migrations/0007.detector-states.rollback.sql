DROP TABLE detector_states;
