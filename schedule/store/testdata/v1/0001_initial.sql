-- {id} is a number that the database gives, never the same twice.
-- Instants are milliseconds since the epoch, 0 where there is none; only where
-- an index asks for it is it NULL. Lists and records are JSON.
-- Long texts come last: what does not ask for them does not read them.

-- schema_floor: the least schema that a program must know to work with this
-- database. A migration that only adds leaves it as it is.
CREATE TABLE schema_floor (version BIGINT NOT NULL);
INSERT INTO schema_floor (version) VALUES (1);

-- counter: numbers that rise in the order in which they can be seen. Those of
-- {id} do not: the second of two transactions may end before the first, and
-- who reads on from the highest number would miss the other.
CREATE TABLE counter (name TEXT PRIMARY KEY, n BIGINT NOT NULL);
INSERT INTO counter (name, n) VALUES ('event', 0);

CREATE TABLE inventory (vcenter TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL);

-- vm: facts is what vCenter said last, hash its SHA-256; name, host, datastores
-- and disks are taken from it. seen_ms counts for those that are gone; the
-- others were seen by the inventory.
CREATE TABLE vm (
    vcenter       TEXT    NOT NULL,
    moref         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    disks         BIGINT  NOT NULL,
    gone          BOOLEAN NOT NULL DEFAULT FALSE,
    seen_ms       BIGINT  NOT NULL DEFAULT 0,
    policy        TEXT    NOT NULL DEFAULT '',
    chosen        TEXT    NOT NULL DEFAULT '',
    paused        BOOLEAN NOT NULL DEFAULT FALSE,
    paused_why    TEXT    NOT NULL DEFAULT '',
    lifecycle     TEXT    NOT NULL DEFAULT 'not-ready',
    wave          TEXT    NOT NULL DEFAULT '',
    next_ms       BIGINT  NOT NULL DEFAULT 0,
    next_why      TEXT    NOT NULL DEFAULT '',
    last_run      BIGINT  NOT NULL DEFAULT 0,
    fails         BIGINT  NOT NULL DEFAULT 0,
    reason        TEXT    NOT NULL DEFAULT '',
    point_cycle   TEXT    NOT NULL DEFAULT '',
    point_ms      BIGINT  NOT NULL DEFAULT 0,
    point_suspect TEXT    NOT NULL DEFAULT '',
    hash          TEXT    NOT NULL,
    datastores    TEXT    NOT NULL,
    launch        TEXT    NOT NULL DEFAULT '',
    measure       TEXT    NOT NULL DEFAULT '',
    problem       TEXT    NOT NULL DEFAULT '',
    facts         TEXT    NOT NULL,
    PRIMARY KEY (vcenter, moref)
);
CREATE INDEX vm_due ON vm (next_ms) WHERE next_ms > 0;

CREATE TABLE run (
    id         {id},
    vcenter    TEXT    NOT NULL,
    moref      TEXT    NOT NULL,
    vm_name    TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    cause      TEXT    NOT NULL DEFAULT '',
    seed       BOOLEAN NOT NULL DEFAULT FALSE,
    policy     TEXT    NOT NULL DEFAULT '',
    priority   BIGINT  NOT NULL DEFAULT 0,
    urgent     BOOLEAN NOT NULL DEFAULT FALSE,
    appliance  TEXT    NOT NULL DEFAULT '',
    epoch      BIGINT  NOT NULL DEFAULT 0,
    cancel     BOOLEAN NOT NULL DEFAULT FALSE,
    queued_ms  BIGINT  NOT NULL,
    started_ms BIGINT  NOT NULL DEFAULT 0,
    ended_ms   BIGINT,
    log_seq    BIGINT  NOT NULL DEFAULT 0,
    reason     TEXT    NOT NULL DEFAULT '',
    error      TEXT    NOT NULL DEFAULT '',
    hint       TEXT    NOT NULL DEFAULT '',
    steps      TEXT    NOT NULL DEFAULT '',
    report     TEXT    NOT NULL DEFAULT ''
);
-- The rule that a VM has one run at a time; also the list of what has not ended.
CREATE UNIQUE INDEX run_open ON run (vcenter, moref) WHERE ended_ms IS NULL;
CREATE INDEX run_vm ON run (vcenter, moref, id);
CREATE INDEX run_done ON run (vcenter, moref, id) WHERE state = 'done';
CREATE INDEX run_state ON run (state, id);
CREATE INDEX run_ended ON run (ended_ms) WHERE ended_ms IS NOT NULL;

CREATE TABLE run_log (
    run   BIGINT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq   BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    level TEXT   NOT NULL,
    line  TEXT   NOT NULL,
    PRIMARY KEY (run, seq)
);

-- point: what AWS's tags said last. Its VM may be one that vCenter no longer has.
CREATE TABLE point (
    vcenter      TEXT    NOT NULL,
    moref        TEXT    NOT NULL,
    cycle        TEXT    NOT NULL,
    frozen_ms    BIGINT  NOT NULL,
    confirmed_ms BIGINT  NOT NULL DEFAULT 0,
    verified_ms  BIGINT  NOT NULL DEFAULT 0,
    complete     BOOLEAN NOT NULL,
    kind         TEXT    NOT NULL,
    blocks       BIGINT  NOT NULL,
    disks        BIGINT  NOT NULL,
    suspect      TEXT    NOT NULL DEFAULT '',
    snapshots    TEXT    NOT NULL,
    PRIMARY KEY (vcenter, moref, cycle)
);

CREATE TABLE policy (
    name   TEXT   PRIMARY KEY,
    origin TEXT   NOT NULL,
    place  BIGINT NOT NULL DEFAULT 0, -- in the file's order
    body   TEXT   NOT NULL
);

CREATE TABLE wave (name TEXT PRIMARY KEY, note TEXT NOT NULL DEFAULT '');

CREATE TABLE appliance (
    id         TEXT    PRIMARY KEY,
    version    TEXT    NOT NULL,
    vm         TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    vcenter    TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    datastores TEXT    NOT NULL,
    started_ms BIGINT  NOT NULL,
    seen_ms    BIGINT  NOT NULL,
    alive      BOOLEAN NOT NULL,
    draining   BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE alarm (
    id         {id},
    about      TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    vcenter    TEXT   NOT NULL DEFAULT '',
    moref      TEXT   NOT NULL DEFAULT '',
    vm_name    TEXT   NOT NULL DEFAULT '',
    since_ms   BIGINT NOT NULL,
    seen_ms    BIGINT NOT NULL,
    cleared_ms BIGINT,
    words      TEXT   NOT NULL,
    hint       TEXT   NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX alarm_open ON alarm (about) WHERE cleared_ms IS NULL;
CREATE INDEX alarm_cleared ON alarm (cleared_ms) WHERE cleared_ms IS NOT NULL;

CREATE TABLE event (
    id      BIGINT PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    vcenter TEXT   NOT NULL DEFAULT '',
    moref   TEXT   NOT NULL DEFAULT '',
    vm_name TEXT   NOT NULL DEFAULT '',
    run     BIGINT NOT NULL DEFAULT 0,
    actor   TEXT   NOT NULL DEFAULT '',
    words   TEXT   NOT NULL,
    data    TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX event_at ON event (at_ms);

CREATE TABLE deed (
    id      {id},
    at_ms   BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    role    TEXT   NOT NULL,
    remote  TEXT   NOT NULL DEFAULT '',
    action  TEXT   NOT NULL,
    subject TEXT   NOT NULL DEFAULT '',
    result  TEXT   NOT NULL
);
CREATE INDEX deed_at ON deed (at_ms);

CREATE TABLE lag_sample (
    vcenter TEXT   NOT NULL,
    moref   TEXT   NOT NULL,
    at_ms   BIGINT NOT NULL,
    lag_ms  BIGINT NOT NULL,
    PRIMARY KEY (vcenter, moref, at_ms)
);
CREATE INDEX lag_sample_at ON lag_sample (at_ms);

CREATE TABLE rate_sample (
    at_ms     BIGINT           NOT NULL,
    appliance TEXT             NOT NULL,
    read_rate DOUBLE PRECISION NOT NULL,
    put_rate  DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (at_ms, appliance)
);

CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- How far each webhook is told of events.
CREATE TABLE hook (
    name     TEXT   PRIMARY KEY,
    event_id BIGINT NOT NULL
);
