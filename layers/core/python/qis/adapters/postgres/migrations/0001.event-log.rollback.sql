DROP FUNCTION ensure_event_partitions(timestamptz, integer);
DROP TABLE stream_snapshots, followers, stream_heads, events;
