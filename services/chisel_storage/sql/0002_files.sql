-- Traces were the first files of jobs. `path` is what a user chose: it is never one on our disk.
alter table traces rename to files;
alter table files rename column name to path;
alter table files add column kind text not null default 'trace';
alter table files alter column kind drop default;
alter table files add column mode text not null default 'plain';
alter table files alter column mode drop default;
alter table files drop constraint traces_pkey;
alter table files add primary key (job_id, attempt, kind, path);
