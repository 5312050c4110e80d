-- The ledger of one experiment. A row is written before the broker may forget the message that it comes from.

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
    UNIQUE (run, round)
) STRICT;

CREATE INDEX open_rounds ON rounds (run) WHERE state = 'open';
CREATE INDEX models ON rounds (round) WHERE state = 'closed' AND kind = 'train';

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    node TEXT NOT NULL,
    dataset TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'accepted', 'refused', 'failed', 'cancelled')),
    final INTEGER,              -- of a failure: whether trying again is pointless
    code TEXT,
    reason TEXT,
    sent_at REAL NOT NULL,
    settled_at REAL,
    FOREIGN KEY (run, round) REFERENCES rounds (run, round)
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_of_round ON tasks (run, round);
CREATE INDEX tasks_out ON tasks (run) WHERE state = 'sent';

-- Accounting is exactly once: an id comes from experiment, run, round, task and node, and counts at most once.
CREATE TABLE updates (
    id TEXT NOT NULL,
    digest TEXT NOT NULL,       -- empty when only validation was asked for
    task TEXT NOT NULL REFERENCES tasks (id),
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'late', 'refused', 'quarantined')),
    reason TEXT,
    arrived_at REAL NOT NULL,
    counted INTEGER,            -- number of the round whose model it is part of: the one that was open when it came
    record TEXT NOT NULL,       -- JSON: the update's manifest, samples, losses, validations, timings as the node told them
    PRIMARY KEY (id, digest)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX accepted_once ON updates (id) WHERE outcome = 'accepted';
CREATE INDEX updates_of_task ON updates (task);
CREATE INDEX updates_of_model ON updates (counted, task) WHERE counted IS NOT NULL;
