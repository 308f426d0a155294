-- Not only lost attempts are repeated, and only those that are repeated count.
alter table jobs rename column runs_lost to repeated;

-- A job's own lease, so that each renewal prolongs by the right one.
alter table attempts add column lease interval not null default interval '10 minutes';
alter table attempts alter column lease drop default;
