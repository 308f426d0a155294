-- Who submitted a job and when it came into its state, for people; how it is to end, and why.
alter table jobs
    add column user_name text not null default '',
    add column since timestamptz not null default now(),
    add column cancel_signal text not null default 'INT',
    add column cancel_grace_seconds double precision,
    add column cancel_reason text not null default '';
update jobs set since = coalesce(ended_at, started_at, queued_at);

-- The newest job of one user.
create index jobs_of_user on jobs (project_id, user_id, seq);
