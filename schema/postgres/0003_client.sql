-- What reaches runs from outside: starts and messages.
--
-- Whoever wakes a run locks its row first, looks at what he needs in a later statement (which then sees
-- every earlier sender), and raises `inbox_head` only together with a message: so numbers have no holes
-- and their order is the order of commits. Rows are locked by ascending key.

-- Start runs. Answers the ones really inserted by their place in the arrays; an id that exists already
-- (here or earlier in the arrays) is left alone, and the caller looks it up in a new statement.
-- `p_owner` starts a run already owned, with epoch 1; a worker without a row owns nothing.
create function {schema}.start(
    p_now timestamptz, p_id text[], p_lane integer[], p_priority smallint[], p_not_before timestamptz[],
    p_deadline timestamptz[], p_tags text[], p_abandoned smallint[], p_parent_key bigint[],
    p_parent_cmd integer[], p_owner bigint[],
    h_at timestamptz[], h_type smallint[], h_name text[], h_data bytea[])
    returns table (ord bigint, key bigint, owned boolean)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_alive bigint[] := '{}';
begin
    if exists (select 1 from unnest(p_owner) o where o is not null) then
        select coalesce(array_agg(f.id), '{}') into v_alive from (
            select w.id from {schema}.workers w where w.id = any(p_owner) order by w.id for key share) f;
    end if;
    return query
    with asked as materialized (
        select distinct on (a.id) a.*, a.not_before is null and a.owner = any(v_alive) as eager
          from unnest(p_id, p_lane, p_priority, p_not_before, p_deadline, p_tags, p_abandoned,
                      p_parent_key, p_parent_cmd, p_owner, h_at, h_type, h_name, h_data) with ordinality
            as a(id, lane, priority, not_before, deadline, tags, abandoned, parent_key, parent_cmd, owner,
                 at, type, name, data, ord)
         order by a.id, a.ord),
    born as (
        insert into {schema}.runs (id, lane, priority, seq, created_at, not_before, deadline, tags,
                                   parent_key, parent_cmd, abandoned, owner, epoch, status, started_at,
                                   ready_at)
        select a.id, a.lane, a.priority, 1, v_now, a.not_before, a.deadline, a.tags::jsonb,
               a.parent_key, a.parent_cmd, nullif(a.abandoned, 0) = 1,
               case when a.eager then a.owner end, case when a.eager then 1 else 0 end,
               case when a.eager then 'running' else 'pending' end, case when a.eager then v_now end,
               case when a.eager then v_now + interval '10 seconds' else coalesce(a.not_before, v_now) end
          from asked a order by a.id
        on conflict (id) do nothing
        returning key, id, owner),
    written as (
        insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
        select b.key, 1, a.at, null, a.type, a.name, a.data
          from born b join asked a on a.id = b.id)
    select a.ord, b.key, b.owner is not null from born b join asked a on a.id = b.id;
end $fn$;

-- Put messages into inboxes. One answer per message: its number, and whether the run is known; a run
-- that has ended takes none. A repeated idempotency key gets the number that it got at first. A run cannot end
-- before one that is `p_control` (1) is in its history. `p_patience` are the milliseconds for which a row
-- that somebody else has locked is waited for. 0: it is passed by, and messages to its run are `busy`.
create function {schema}.deliver(
    p_now timestamptz, p_run text[], p_name text[], p_data bytea[], p_idem text[],
    p_control smallint[] default '{}', p_patience integer default 2000)
    returns table (number bigint, known boolean, is_open boolean, busy boolean)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_keys  bigint[];
    v_busy  text[] := '{}';
begin
    if p_patience = 0 then
        select coalesce(array_agg(k.key), '{}') into v_keys from (
            select r.key from {schema}.runs r
             where r.id = any(p_run) order by r.key for no key update skip locked) k;
        if cardinality(v_keys) < cardinality(p_run) then
            -- Also a run that got its id after that statement began: the next try finds it.
            v_busy := array(select r.id from {schema}.runs r where r.id = any(p_run) and r.key <> all(v_keys));
        end if;
    else
        perform set_config('lock_timeout', p_patience || 'ms', true);
        select coalesce(array_agg(k.key), '{}') into v_keys from (
            select r.key from {schema}.runs r where r.id = any(p_run) order by r.key for no key update) k;
    end if;
    if p_patience > 0 and cardinality(v_keys) < cardinality(p_run) then
        -- A run that was restarted while we waited has another id now, and the new one of that id the
        -- highest key: the order of locks is kept.
        select v_keys || coalesce(array_agg(k.key), '{}') into v_keys from (
            select r.key from {schema}.runs r
             where r.id = any(p_run) and r.key <> all(v_keys) order by r.key for no key update) k;
    end if;
    return query
    with asked as materialized (
        select a.*, a.run = any(v_busy) as busy, r.key, r.finished_at is null as open,
               r.inbox_head - r.consumed as unread,
               (select k.n from {schema}.inbox_keys k where k.run_key = r.key and k.idem = a.idem) as old
          from unnest(p_run, p_name, p_data, p_idem, p_control) with ordinality
               as a(run, name, data, idem, control, ord)
          left join {schema}.runs r on r.id = a.run and r.key = any(v_keys)),
    firsts as materialized (
        select a.*, row_number() over (partition by a.key, coalesce(a.idem, ''), case when a.idem is null
                                                                                       then a.ord end
                                       order by a.ord) as copy
          from asked a where a.open and a.old is null),
    fitting as materialized (
        select f.*, f.unread + row_number() over (partition by f.key order by f.ord) as place
          from firsts f where f.copy = 1),
    -- 10,000 is MAX_UNREAD; orders, a cancel say, have room for ever.
    fresh as materialized (
        select f.*, row_number() over (partition by f.key order by f.ord) as nth
          from fitting f where f.place <= 10000 or f.control = 1),
    woken as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + c.cnt,
               control_head = coalesce(r.inbox_head + c.control, r.control_head),
               ready_at = greatest(r.not_before, least(r.ready_at, v_now))
          from (select key, count(*) as cnt, max(nth) filter (where control = 1) as control
                  from fresh group by key) c
         where r.key = c.key and r.key = any(v_keys)
        returning r.key, r.inbox_head - c.cnt as base),
    numbered as materialized (
        select f.ord, f.key, f.idem, f.name, f.data, w.base + f.nth as n
          from fresh f join woken w on w.key = f.key),
    posted as (
        insert into {schema}.inbox (run_key, n, name, data)
        select key, n, name, data from numbered),
    remembered as (
        insert into {schema}.inbox_keys (run_key, idem, n)
        select key, idem, n from numbered where idem is not null)
    select coalesce(a.old, s.n, t.n), a.key is not null or a.busy, coalesce(a.open, a.busy), a.busy
      from asked a
      left join numbered s on s.ord = a.ord
      left join numbered t on t.key = a.key and t.idem = a.idem
     order by a.ord;
end $fn$;
