-- An account without a password cannot sign in, as the one that a single machine begins with.
alter table users
    add column password text, -- argon2id in PHC form
    add column is_admin boolean not null default false,
    add column project_id text references projects;

create table invites (
    id text primary key,
    digest bytea not null,
    name text, -- null: whoever accepts chooses
    is_admin boolean not null,
    project_id text not null references projects,
    created_at timestamptz not null,
    expires_at timestamptz, -- null: the first admin's, which holds until there is one
    used_at timestamptz
);

create table sign_ins (
    id text primary key,
    digest bytea not null,
    user_id text not null references users,
    expires_at timestamptz not null
);

create table logins (
    id text primary key,
    digest bytea not null,
    user_code text not null unique,
    machine text not null,
    client text not null,
    address text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    polled_at timestamptz,
    allowed boolean, -- null: nobody has decided
    decided_by text references users,
    redeemed_at timestamptz
);

-- How often something was tried since `began_at`. `subject` is a hash: people type passwords as names.
create table attempts (
    subject bytea primary key,
    began_at timestamptz not null,
    number integer not null
);
