-- A bundle is a manifest now, whose content lies in packs. Bundles of the kind before cannot be read any
-- more; who still has such a directory is asked for it again.
delete from bundles;

create table packs (
    project_id text not null,
    digest text not null,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    primary key (project_id, digest)
);

create table bundle_packs (
    project_id text not null,
    bundle text not null,
    pack text not null,
    primary key (project_id, bundle, pack),
    foreign key (project_id, bundle) references bundles (project_id, digest) on delete cascade
);
