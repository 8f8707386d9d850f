DROP FUNCTION known_claims(json), move_heads(json);
