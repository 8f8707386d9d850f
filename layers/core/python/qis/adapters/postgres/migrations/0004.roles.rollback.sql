DROP OWNED BY qis_app;
