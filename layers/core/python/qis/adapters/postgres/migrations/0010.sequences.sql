-- Sequence numbers of the channels of providers, as far as the scoreboard has followed the log.
-- depends: 0009.records

CREATE TABLE sequence_states (
    source  text  NOT NULL COLLATE "C",
    channel text  NOT NULL COLLATE "C", -- empty: the provider numbers all that it sends
    state   jsonb NOT NULL,
    -- Whether people know of all that is in the state.
    told    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (source, channel)
);

GRANT SELECT, INSERT, UPDATE ON sequence_states TO qis_app;
