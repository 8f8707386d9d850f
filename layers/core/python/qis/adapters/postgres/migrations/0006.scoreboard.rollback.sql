DROP TABLE quality_windows, quality_tallies, quality_values;
