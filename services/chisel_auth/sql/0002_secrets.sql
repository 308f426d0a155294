-- Sealed with a key that lies in a file: whoever reads this database learns names and lengths.
create table secrets (
    project_id text not null references projects,
    name text not null,
    -- Part of what is sealed, as project and name are: a row copied over another cannot be opened.
    version int not null,
    key_id text not null,
    sealed bytea not null,
    size_bytes int not null,
    set_at timestamptz not null,
    set_by text not null,
    primary key (project_id, name)
);

-- The local user's keys may do what they could have done had they been made today.
update api_keys set scopes = scopes || array['secrets:read', 'secrets:write']
where name = 'bootstrap' and not scopes @> array['secrets:write'];
