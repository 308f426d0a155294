create table agents (
    id text primary key,
    session text not null,
    name text not null,
    pool text not null,
    gpu_model text not null,
    gpus_total int not null check (gpus_total >= 0),
    -- Kept in step with the open attempts by the two sentences that open and end one, so that a claim
    -- finds a better place by index instead of adding up every agent's attempts.
    gpus_held int not null default 0 check (gpus_held >= 0),
    gpus_free int generated always as (greatest(gpus_total - gpus_held, 0)) stored,
    free_since timestamptz not null,
    state text not null check (state in ('online', 'unreachable', 'offline')),
    draining boolean not null default false,
    last_seen timestamptz not null
);

create index agents_with_room on agents (pool, gpu_model, gpus_free, free_since)
    where state = 'online' and not draining;

-- Every session an agent ever announced: a delayed hello of an old one must not end a newer one.
create table sessions (
    agent_id text not null,
    session text not null,
    started_at timestamptz not null,
    primary key (agent_id, session)
);

create table jobs (
    -- Byte order, so that a range over the primary key finds the ids with a given beginning.
    id text collate "C" primary key,
    seq bigint generated always as identity,
    project_id text not null,
    user_id text not null,
    idempotency_key text not null,
    spec json not null,
    pool text not null,
    gpu_model text not null,
    gpu_count int not null check (gpu_count > 0),
    priority int not null,
    -- Ascending like seq, so that one index gives the order of the queue.
    rank int generated always as (-priority) stored,
    retries int not null,
    time_limit_seconds double precision,
    state text not null,
    version int not null default 1,
    attempt int not null default 0,
    runs_lost int not null default 0,
    submitted_at timestamptz not null,
    queued_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz,
    ending json,
    agent_id text,
    agent_name text not null default '',
    cancel_requested_at timestamptz,
    cancel_requested_by text,
    unreachable boolean not null default false,
    archived boolean not null default false,
    unique (user_id, idempotency_key)
);

-- Claims and queue positions read this and nothing else: finished jobs are not in it, and a walk in queue
-- order stays within one size. An index without the size would tempt the planner to walk past a hundred
-- thousand large jobs in search of a small one.
create index jobs_queued on jobs (pool, gpu_model, gpu_count, rank, seq) where state = 'queued';
create index jobs_of_project on jobs (project_id, seq);
create index jobs_unfinished on jobs (project_id, seq) where ended_at is null;

create table attempts (
    job_id text collate "C" not null references jobs,
    attempt int not null,
    agent_id text not null,
    session text not null,
    claim_key text not null,
    gpu_count int not null check (gpu_count > 0),
    claimed_at timestamptz not null,
    started_at timestamptz,
    lease_until timestamptz not null,
    ended_at timestamptz,
    ended_by text check (ended_by in ('agent', 'scheduler')),
    ending json,
    archived_at timestamptz,
    primary key (job_id, attempt),
    unique (agent_id, session, claim_key)
);

-- The last guard of "never twice at once", whatever the code above it does.
create unique index attempts_one_open on attempts (job_id) where ended_at is null;
create index attempts_held on attempts (agent_id) where ended_at is null;
create index attempts_leases on attempts (lease_until) where ended_at is null;
create index attempts_unarchived on attempts (ended_at) where ended_at is not null and archived_at is null;

-- What happened to a job, for ever, in order.
create table job_events (
    job_id text collate "C" not null,
    version int not null,
    attempt int not null,
    event text not null,
    state text not null,
    at timestamptz not null,
    detail text not null default '',
    primary key (job_id, version)
);

-- Said to the bus after the transaction that wrote it, then deleted.
create table outbox (
    id bigint generated always as identity primary key,
    subject text not null,
    message_id text not null,
    body bytea not null
);
