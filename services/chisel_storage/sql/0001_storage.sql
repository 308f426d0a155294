create table bundles (
    project_id text not null,
    digest text not null,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    primary key (project_id, digest)
);

create table traces (
    job_id text not null,
    attempt integer not null,
    name text not null,
    project_id text not null,
    size_bytes bigint not null,
    sha256 text not null,
    created_at timestamptz not null default now(),
    primary key (job_id, attempt, name)
);

-- Archived output: so many bytes of each file are safe. `sealed` once that is all there ever will be.
create table outputs (
    job_id text not null,
    attempt integer not null,
    stdout_bytes bigint not null default 0,
    stderr_bytes bigint not null default 0,
    sealed boolean not null default false,
    updated_at timestamptz not null default now(),
    primary key (job_id, attempt)
);
