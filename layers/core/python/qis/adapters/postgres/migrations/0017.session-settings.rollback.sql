-- The settings stay: they are of the role, which other databases of the server share, and do no harm.
SELECT;
