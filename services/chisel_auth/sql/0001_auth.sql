create table users (
    id text primary key,
    name text not null unique,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

create table projects (
    id text primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);

-- Of every token only a digest is kept: whoever reads this database can impersonate nobody.
create table api_keys (
    id text primary key,
    digest bytea not null,
    user_id text not null references users,
    project_id text not null references projects,
    scopes text[] not null,
    name text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table join_tokens (
    id text primary key,
    digest bytea not null,
    pool text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table agents (
    id text primary key,
    name text not null,
    pool text not null,
    key_id text not null unique,
    digest bytea not null,
    joined_with text not null references join_tokens,
    joined_at timestamptz not null default now(),
    revoked_at timestamptz
);
