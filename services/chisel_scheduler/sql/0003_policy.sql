-- What users and projects have had and hold. Kept in step with the attempts by the two sentences that
-- open and end one, under the lock `chisel-usage`: see `store/usage.py`.
create table usage (
    kind text not null check (kind in ('user', 'project')),
    id text not null,
    -- A user's, for people; empty for a project, whose name only auth knows.
    name text not null default '',
    gpus_held int not null default 0 check (gpus_held >= 0),
    -- Of attempts that have ended, decayed up to counted_at.
    gpu_seconds double precision not null default 0,
    counted_at timestamptz not null,
    primary key (kind, id)
);

-- What an admin has said of a user or a project; without a row the weight is 1 and nothing is limited.
-- The name is auth's, for people.
create table shares (
    kind text not null check (kind in ('user', 'project')),
    id text not null,
    name text not null,
    weight double precision not null default 1 check (weight > 0),
    gpus int check (gpus >= 0),
    primary key (kind, id)
);

insert into usage (kind, id, name, gpus_held, counted_at)
select owner.kind, owner.id, max(owner.name), sum(attempts.gpu_count), now()
from attempts join jobs on jobs.id = attempts.job_id
cross join lateral (
    values ('user', jobs.user_id, jobs.user_name), ('project', jobs.project_id, '')
) as owner(kind, id, name)
where attempts.ended_at is null
group by owner.kind, owner.id;

-- A lane is what one user has queued of one size in one project. The first job of each lane is found by one
-- step of this index, and so are the next ones: a claim costs what there are lanes, not what there are jobs.
drop index jobs_queued;
create index jobs_queued on jobs (pool, gpu_model, user_id, project_id, gpu_count, rank, seq)
    where state = 'queued';
