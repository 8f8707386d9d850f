-- Issues and the exceptions that belong to them, written in the transaction of their events.
-- depends: 0004.roles

CREATE TABLE issues (
    issue       uuid        PRIMARY KEY,
    group_name  text        NOT NULL COLLATE "C",
    status      text        NOT NULL CHECK (status IN ('detected', 'triaged', 'snoozed', 'closed')),
    severity    text        NOT NULL,
    opened_at   timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    due_at      timestamptz,
    state       jsonb       NOT NULL
);
CREATE INDEX issues_list ON issues (status, opened_at, issue);
CREATE INDEX issues_due ON issues (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE issue_items (
    item              uuid   PRIMARY KEY,
    issue             uuid   NOT NULL,
    group_name        text   NOT NULL COLLATE "C",
    reference_data_id text   NOT NULL COLLATE "C",
    snap_ns           bigint NOT NULL
);
CREATE INDEX issue_items_of ON issue_items (issue, item);

-- When the scheduled work of quality was last begun, so that each hour is done once.
CREATE TABLE quality_runs (
    work text        PRIMARY KEY,
    hour timestamptz NOT NULL
);

-- Findings of a series that are open, to be checked again when something about it changes.
CREATE INDEX exceptions_open ON exceptions (reference_data_id, snap_ns) WHERE status = 'open';

GRANT SELECT, INSERT, UPDATE ON issues, issue_items, quality_runs TO qis_app;
