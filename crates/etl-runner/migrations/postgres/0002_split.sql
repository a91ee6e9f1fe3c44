-- A load on several connections: its parts, each planned before it is loaded and loaded in a transaction of its own. The
-- load's own row stands as 'loading' meanwhile, visible to everybody, and becomes 'loaded' once all of them are in.
create table if not exists aqueduct.split (
    load_id      bigint not null,
    split        integer not null,
    -- Where it begins in the decompressed object, and what is in it.
    byte_offset  bigint not null,
    first_line   bigint not null,
    first_record bigint not null,
    bytes        bigint not null,
    lines        bigint not null,
    records      bigint not null,
    state        text not null default 'planned',
    finished_at  timestamptz,
    loaded       bigint not null default 0,
    rejected     bigint not null default 0,
    skipped      bigint not null default 0,
    constraint split_pkey primary key (load_id, split),
    constraint split_load_id_fkey foreign key (load_id) references aqueduct.load (id) on delete cascade,
    constraint split_state_known check (state in ('planned', 'loaded')),
    constraint split_balance check (state = 'planned' or records = loaded + rejected)
);
