DROP INDEX exceptions_open;
DROP TABLE quality_runs, issue_items, issues;
