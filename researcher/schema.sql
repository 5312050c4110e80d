-- The ledger of one experiment. A row is written before the broker may forget the message that it comes from.
-- Rows refer to each other by position, which grows with time: so what belongs to one round lies together, and few pages are written for it.

CREATE TABLE experiment (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at REAL NOT NULL,
    run TEXT,                   -- the incarnation that may go on; none before the first run and after an end
    config TEXT NOT NULL,       -- JSON: tags, nodes, arguments, round limit, aggregator, strategy, encoding
    plan_name TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    plan_source TEXT NOT NULL,
    training_data TEXT,         -- JSON: the chosen data set of each node
    initial_model TEXT,         -- digest
    parent TEXT,                -- JSON: experiment, round and model that this one was branched from
    moments TEXT                -- JSON: count, mean and spread of columns over all nodes, once they were asked for
) STRICT;

CREATE TABLE rounds (
    position INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('train', 'validate', 'measure')),
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'failed', 'cancelled')),
    reason TEXT,
    base TEXT NOT NULL,         -- digest of the global model that it started from
    sent TEXT NOT NULL,         -- JSON: manifest of that model as it went to the nodes, perhaps encoded
    encoding TEXT NOT NULL,     -- how nodes were to encode their updates
    model TEXT,                 -- digest of the global model that it made
    updates INTEGER NOT NULL,   -- optimisation steps that each task was asked for; 0 if it was asked for epochs
    streams TEXT,               -- JSON, once it is closed: steps of this kind of each node so far, as far as its updates count
    reserve TEXT NOT NULL,      -- JSON: nodes that could be asked in place of others, in this order
    aggregator TEXT NOT NULL,   -- JSON, as in the configuration when the round was opened
    agg_optimizer TEXT,         -- JSON, likewise; none if the aggregator made the model alone
    strategy TEXT NOT NULL,     -- JSON, likewise
    opened_at REAL NOT NULL,
    members INTEGER NOT NULL,   -- nodes that take part in the experiment, asked in this round or not
    deadline REAL,
    closed_at REAL,
    broadcast_s REAL,
    collect_s REAL,
    aggregate_s REAL,
    save_s REAL,
    UNIQUE (round, run)
) STRICT;

-- One round at most is open, and it was opened last.
CREATE VIEW open_round AS
SELECT * FROM rounds WHERE state = 'open' AND position = (SELECT max(position) FROM rounds);

CREATE TABLE tasks (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,    -- made from run, round, node and attempt
    asked INTEGER NOT NULL REFERENCES rounds (position),    -- the round that it is part of
    node TEXT NOT NULL,
    dataset TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'accepted', 'refused', 'failed', 'cancelled')),
    final INTEGER,              -- of a failure: whether trying again is pointless
    code TEXT,
    reason TEXT,
    sent_at REAL NOT NULL,
    settled_at REAL
) STRICT;

CREATE INDEX tasks_of_round ON tasks (asked);
CREATE INDEX tasks_out ON tasks (asked) WHERE state = 'sent';

-- Accounting is exactly once: a task belongs to one experiment, run, round and node, and counts at most once.
CREATE TABLE updates (
    position INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks (position),
    digest TEXT NOT NULL,       -- empty when only validation was asked for
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'late', 'refused', 'quarantined')),
    reason TEXT,
    arrived_at REAL NOT NULL,
    counted INTEGER REFERENCES rounds (position),           -- the round whose model it is part of: the one that was open when it came
    record TEXT NOT NULL,       -- JSON: the update's manifest, samples, losses, validations, timings as the node told them
    UNIQUE (task, digest)
) STRICT;

CREATE UNIQUE INDEX accepted_once ON updates (task) WHERE outcome = 'accepted';
CREATE INDEX updates_of_model ON updates (counted) WHERE counted IS NOT NULL;

-- Updates that were refused or quarantined, and tasks that failed.
CREATE VIEW set_aside AS
SELECT tasks.id AS task, round, node, attempt, outcome, tasks.code, coalesce(updates.reason, tasks.reason) AS reason,
    arrived_at AS at, digest
FROM updates JOIN tasks ON tasks.position = task JOIN rounds ON rounds.position = asked WHERE outcome IN ('refused', 'quarantined')
UNION ALL
SELECT id, round, node, attempt, tasks.state, code, tasks.reason, settled_at, ''
FROM tasks JOIN rounds ON rounds.position = asked WHERE tasks.state = 'failed';

-- Small models and accepted updates; all others are files.
CREATE TABLE payloads (
    position INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL
) STRICT;
