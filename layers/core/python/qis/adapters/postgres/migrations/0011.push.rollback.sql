DROP FUNCTION push_keys(text);
DROP TABLE push_subscriptions;
DROP TABLE push_connections;
