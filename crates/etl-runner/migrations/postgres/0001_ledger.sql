-- One row per attempt to bring one object version into one table. The row is written in the transaction that writes the
-- rows it describes, so others only ever see how an attempt ended.
create table if not exists aqueduct.load (
    id             bigint generated always as identity,
    run_id         uuid not null,
    pipeline       text not null,
    pipeline_hash  text not null,
    table_schema   text not null,
    table_name     text not null,
    -- Tells a table that was dropped and made again from the one the rows went into.
    table_oid      bigint,
    object_uri     text not null,
    object_key     text not null,
    object_version text not null,
    etag           text,
    object_size    bigint,
    last_modified  timestamptz,
    content_sha256 text,
    state          text not null,
    started_at     timestamptz not null,
    finished_at    timestamptz,
    records_read   bigint not null default 0,
    loaded         bigint not null default 0,
    rejected       bigint not null default 0,
    filtered       bigint not null default 0,
    duplicates     bigint not null default 0,
    skipped        bigint not null default 0,
    bytes          bigint not null default 0,
    runner_version text not null,
    first_error    text,
    -- The same object version under the same pipeline would fail again.
    permanent      boolean not null default false,
    replaced_by    bigint,
    note           jsonb not null default '{}',
    constraint load_pkey primary key (id),
    constraint load_state_known
        check (state in ('loading', 'loaded', 'replaced', 'superseded', 'undone', 'failed')),
    -- A load that failed stopped in mid-file, so its counts need not add up.
    constraint load_balance
        check (state = 'failed' or records_read = loaded + rejected + filtered + duplicates)
);

-- At most one live load of an object in a table: a second runner waits here and is then refused.
create unique index if not exists load_live
    on aqueduct.load (table_schema, table_name, object_uri) where state in ('loading', 'loaded');

create index if not exists load_object on aqueduct.load (table_schema, table_name, object_uri, object_version, id);

-- One row per record of a load that was set aside, with its exact bytes.
create table if not exists aqueduct.reject (
    load_id     bigint not null,
    record      bigint not null,
    line        bigint not null,
    byte_offset bigint not null,
    field       text,
    code        text not null,
    message     text not null,
    raw         bytea not null,
    constraint reject_pkey primary key (load_id, record),
    constraint reject_load_id_fkey foreign key (load_id) references aqueduct.load (id) on delete cascade
);
