-- What the operator says about an agent. `draining` is the agent's own word and ends with its session; this
-- outlives agent and scheduler.
alter table agents
    add column cordoned_at timestamptz,
    add column cordoned_by text not null default '',
    add column cordon_reason text not null default '',
    add column drain boolean not null default false,
    add column drain_deadline timestamptz,
    -- GPUs that the agent gives to nobody, besides those its attempts hold, and why.
    add column gpus_quarantined int not null default 0 check (gpus_quarantined >= 0),
    add column quarantine text not null default '',
    add check (cordoned_at is not null or (not drain and drain_deadline is null));

-- Who may be given jobs is decided here and nowhere else.
alter table agents add column takes_jobs boolean
    generated always as (state = 'online' and not draining and cordoned_at is null) stored;

drop index agents_with_room;
alter table agents drop column gpus_free;
alter table agents add column gpus_free int
    generated always as (greatest(gpus_total - gpus_held - gpus_quarantined, 0)) stored;
create index agents_with_room on agents (pool, gpu_model, gpus_free, free_since) where takes_jobs;

-- An attempt that ends because its agent is drained: since when, by whom and why.
alter table attempts
    add column evicted_at timestamptz,
    add column evicted_by text not null default '',
    add column evict_reason text not null default '';
