-- Of a file that is kept as a gzip file `size_bytes` and `sha256` are that file's, these of what is in it.
alter table files add column raw_bytes bigint;
alter table files add column raw_sha256 text;

-- What an agent has seen of the captures of its attempts. `number` grows with every report, so that one
-- that comes late changes nothing.
create table captures (
    job_id text not null,
    attempt integer not null,
    name text not null,
    number bigint not null,
    state text not null,
    sent_bytes bigint not null,
    total_bytes bigint not null,
    reason text not null,
    call integer,
    rank integer,
    function text not null,
    started_at double precision,
    sidecar bytea not null default ''::bytea,
    primary key (job_id, attempt, name)
);

-- What was read off a trace. `read_as` is the form of summaries that was last tried, whatever came of it: of
-- one below today's the file is still to be read, or again. `tries` counts what was begun and not recorded.
create table readings (
    job_id text not null,
    attempt integer not null,
    name text not null,
    sha256 text not null,
    read_as integer not null default 0,
    tries integer not null default 0,
    reason text not null default '',
    truncated boolean not null default false,
    events bigint,
    wall_us double precision,
    gpu_busy double precision,
    cold boolean,
    finding text not null default '',
    summary bytea,
    stored_at timestamptz not null default now(),
    primary key (job_id, attempt, name)
);
create index readings_due on readings (read_as, tries, stored_at);
insert into readings (job_id, attempt, name, sha256)
    select job_id, attempt, path, sha256 from files where kind = 'trace';
