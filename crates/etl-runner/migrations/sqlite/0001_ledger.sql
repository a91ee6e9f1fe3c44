-- One row per attempt to bring one object version into one table. The row is written in the transaction that writes the
-- rows it describes, so others only ever see how an attempt ended. Times are UTC in RFC 3339 with microseconds.
create table if not exists aqueduct_load (
    id             integer not null,
    run_id         text not null,
    pipeline       text not null,
    pipeline_hash  text not null,
    -- SQLite has no schemas; the column keeps the ledger's shape the same on both databases.
    table_schema   text not null,
    table_name     text not null,
    table_oid      integer,
    object_uri     text not null,
    object_key     text not null,
    object_version text not null,
    etag           text,
    object_size    integer,
    last_modified  text,
    content_sha256 text,
    state          text not null,
    started_at     text not null,
    finished_at    text,
    records_read   integer not null default 0,
    loaded         integer not null default 0,
    rejected       integer not null default 0,
    filtered       integer not null default 0,
    duplicates     integer not null default 0,
    skipped        integer not null default 0,
    bytes          integer not null default 0,
    runner_version text not null,
    first_error    text,
    -- The same object version under the same pipeline would fail again.
    permanent      integer not null default 0,
    replaced_by    integer,
    note           text not null default '{}',
    -- Autoincrement: an id is never given out twice, not even after the newest row is deleted.
    constraint load_pkey primary key (id autoincrement),
    constraint load_state_known
        check (state in ('loading', 'loaded', 'replaced', 'superseded', 'undone', 'failed')),
    -- A load that failed stopped in mid-file, so its counts need not add up.
    constraint load_balance
        check (state = 'failed' or records_read = loaded + rejected + filtered + duplicates)
) strict;

-- At most one live load of an object in a table.
create unique index if not exists aqueduct_load_live
    on aqueduct_load (table_schema, table_name, object_uri) where state in ('loading', 'loaded');

create index if not exists aqueduct_load_object
    on aqueduct_load (table_schema, table_name, object_uri, object_version, id);

-- One row per record of a load that was set aside, with its exact bytes.
create table if not exists aqueduct_reject (
    load_id     integer not null,
    record      integer not null,
    line        integer not null,
    byte_offset integer not null,
    field       text,
    code        text not null,
    message     text not null,
    raw         blob not null,
    constraint reject_pkey primary key (load_id, record),
    constraint reject_load_id_fkey foreign key (load_id) references aqueduct_load (id) on delete cascade
) strict, without rowid;
