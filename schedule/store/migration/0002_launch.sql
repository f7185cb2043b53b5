-- launch_run: one action on one VM. wish is how it is wanted, prove is taken
-- from it. was is the VM's lifecycle when the run was first taken in hand.
CREATE TABLE launch_run (
    id         {id},
    vcenter    TEXT    NOT NULL,
    moref      TEXT    NOT NULL,
    vm_name    TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    cause      TEXT    NOT NULL DEFAULT '',
    wave       TEXT    NOT NULL DEFAULT '',
    prove      BOOLEAN NOT NULL DEFAULT FALSE,
    job        TEXT    NOT NULL DEFAULT '',
    was        TEXT    NOT NULL DEFAULT '',
    appliance  TEXT    NOT NULL DEFAULT '',
    epoch      BIGINT  NOT NULL DEFAULT 0,
    cancel     BOOLEAN NOT NULL DEFAULT FALSE,
    queued_ms  BIGINT  NOT NULL,
    started_ms BIGINT  NOT NULL DEFAULT 0,
    ended_ms   BIGINT,
    error      TEXT    NOT NULL DEFAULT '',
    hint       TEXT    NOT NULL DEFAULT '',
    reason     TEXT    NOT NULL DEFAULT '',
    wish       TEXT    NOT NULL DEFAULT ''
);
-- The rule that a VM has one at a time; also the list of what has not ended.
CREATE UNIQUE INDEX launch_run_open ON launch_run (vcenter, moref) WHERE ended_ms IS NULL;
CREATE INDEX launch_run_vm ON launch_run (vcenter, moref, id);
CREATE INDEX launch_run_wave ON launch_run (wave, id) WHERE wave <> '';
CREATE INDEX launch_run_prove ON launch_run (vcenter, moref, id) WHERE prove;
CREATE INDEX launch_run_job ON launch_run (job) WHERE job <> '';
CREATE INDEX launch_run_ended ON launch_run (ended_ms) WHERE ended_ms IS NOT NULL;

-- launch_job: one launch. doc is all of it, in the form of package launch.
CREATE TABLE launch_job (
    id           TEXT    PRIMARY KEY,
    vcenter      TEXT    NOT NULL,
    moref        TEXT    NOT NULL,
    vm_name      TEXT    NOT NULL,
    purpose      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    point        TEXT    NOT NULL DEFAULT '',
    instance     TEXT    NOT NULL DEFAULT '',
    address      TEXT    NOT NULL DEFAULT '',
    made_ms      BIGINT  NOT NULL,
    ends_ms      BIGINT  NOT NULL DEFAULT 0,
    finished     BOOLEAN NOT NULL DEFAULT FALSE, -- nothing more happens to it
    to_launch_ms BIGINT  NOT NULL DEFAULT 0,
    downtime_ms  BIGINT  NOT NULL DEFAULT 0,
    error        TEXT    NOT NULL DEFAULT '',
    hint         TEXT    NOT NULL DEFAULT '',
    doc          TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX launch_job_vm ON launch_job (vcenter, moref, made_ms, id);
CREATE INDEX launch_job_made ON launch_job (made_ms, id);
CREATE INDEX launch_job_open ON launch_job (vcenter, moref) WHERE NOT finished;
