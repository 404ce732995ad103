-- What reaches runs from outside: starts, messages, terminations, and the release of blocked runs.
--
-- Whoever wakes a run locks its row first, looks at what he needs in a later statement (which then sees
-- every earlier sender), and raises `inbox_head` only together with a message: so numbers have no holes
-- and their order is the order of commits. Rows are locked by ascending key.

-- Start runs. Answers the ones really inserted by their place in the arrays; an id that exists already
-- (here or earlier in the arrays) is left alone, and the caller looks it up in a new statement.
-- `p_owner` starts a run already owned, with epoch 1; a worker without a row owns nothing.
create function {schema}.start(
    p_now timestamptz, p_id text[], p_lane integer[], p_priority smallint[], p_not_before timestamptz[],
    p_deadline timestamptz[], p_tags text[], p_parent_key bigint[], p_parent_cmd integer[], p_owner bigint[],
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
          from unnest(p_id, p_lane, p_priority, p_not_before, p_deadline, p_tags, p_parent_key,
                      p_parent_cmd, p_owner, h_at, h_type, h_name, h_data) with ordinality
            as a(id, lane, priority, not_before, deadline, tags, parent_key, parent_cmd, owner,
                 at, type, name, data, ord)
         order by a.id, a.ord),
    born as (
        insert into {schema}.runs (id, lane, priority, seq, created_at, not_before, deadline, tags,
                                   parent_key, parent_cmd, owner, epoch, status, started_at, ready_at)
        select a.id, a.lane, a.priority, 1, v_now, a.not_before, a.deadline, a.tags::jsonb,
               a.parent_key, a.parent_cmd,
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
-- that has ended takes none. A repeated idempotency key gets the number that it got at first.
create function {schema}.deliver(
    p_now timestamptz, p_run text[], p_name text[], p_data bytea[], p_idem text[])
    returns table (number bigint, known boolean)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_keys  bigint[];
begin
    select coalesce(array_agg(k.key), '{}') into v_keys from (
        select r.key from {schema}.runs r where r.id = any(p_run) order by r.key for no key update) k;
    return query
    with asked as materialized (
        select a.*, r.key, r.finished_at is null as open,
               (select k.n from {schema}.inbox_keys k where k.run_key = r.key and k.idem = a.idem) as old
          from unnest(p_run, p_name, p_data, p_idem) with ordinality as a(run, name, data, idem, ord)
          left join {schema}.runs r on r.id = a.run and r.key = any(v_keys)),
    firsts as materialized (
        select a.*, row_number() over (partition by a.key, coalesce(a.idem, ''), case when a.idem is null
                                                                                       then a.ord end
                                       order by a.ord) as copy
          from asked a where a.open and a.old is null),
    fresh as materialized (
        select f.*, row_number() over (partition by f.key order by f.ord) as nth
          from firsts f where f.copy = 1),
    woken as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + c.cnt,
               ready_at = greatest(r.not_before, least(r.ready_at, v_now))
          from (select key, count(*) as cnt from fresh group by key) c
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
    select coalesce(a.old, s.n, t.n), a.key is not null
      from asked a
      left join numbered s on s.ord = a.ord
      left join numbered t on t.key = a.key and t.idem = a.idem
     order by a.ord;
end $fn$;

-- End a run at once. Its parent, if it has one, gets the message `child:<cmd>` with the event's data.
-- Answers the status that the run has now; null: no such run.
create function {schema}.terminate(
    p_now timestamptz, p_id text, h_at timestamptz, h_type smallint, h_name text, h_data bytea)
    returns text
    language plpgsql
    set jit = off set lock_timeout = '2s'
as $fn$
declare
    v_now    timestamptz := coalesce(p_now, clock_timestamp());
    v_key    bigint;
    v_parent bigint;
    v_cmd    integer;
    v_status text;
    v_seq    bigint;
    v_n      bigint;
begin
    select r.key, r.parent_key, r.parent_cmd into v_key, v_parent, v_cmd
      from {schema}.runs r where r.id = p_id;
    if not found then
        return null;
    end if;
    perform 1 from {schema}.runs r where r.key = any(array[v_key, v_parent]) order by r.key
        for no key update;
    select r.status into v_status from {schema}.runs r where r.key = v_key and r.finished_at is not null;
    if found then
        return v_status;
    end if;
    update {schema}.runs r
       set status = 'terminated', owner = null, epoch = r.epoch + 1, seq = r.seq + 1, hold = 0,
           ready_at = null, waiting_for = null, blocked_by = null, finished_at = v_now
     where r.key = v_key returning r.seq into v_seq;
    if not found then
        return null;
    end if;
    insert into {schema}.history (run_key, seq, at, type, name, data)
    values (v_key, v_seq, h_at, h_type, h_name, h_data);
    update {schema}.runs r
       set inbox_head = r.inbox_head + 1, ready_at = greatest(r.not_before, least(r.ready_at, v_now))
     where r.key = v_parent and r.finished_at is null returning r.inbox_head into v_n;
    if found then
        insert into {schema}.inbox (run_key, n, name, data) values (v_parent, v_n, 'child:' || v_cmd, h_data);
    end if;
    return 'terminated';
end $fn$;

-- Start one run; an older run of that id is terminated, keeps its history under `<id>~<n>`, and is what
-- the new one was retried from. All in one transaction. Repeated after a lost answer (the run of that
-- id began with exactly this event) it restarts nothing. The arrays hold one element each.
create function {schema}.restart(
    p_now timestamptz, p_id text[], p_lane integer[], p_priority smallint[], p_not_before timestamptz[],
    p_deadline timestamptz[], p_tags text[], p_parent_key bigint[], p_parent_cmd integer[], p_owner bigint[],
    h_at timestamptz[], h_type smallint[], h_name text[], h_data bytea[],
    e_at timestamptz, e_type smallint, e_name text, e_data bytea)
    returns table (key bigint, owned boolean)
    language plpgsql
    set jit = off set lock_timeout = '2s'
as $fn$
declare
    v_id     text := p_id[1];
    v_old    bigint;
    v_parent bigint;
    v_copy   integer;
    v_from   text;
begin
    loop
        select r.key, r.parent_key into v_old, v_parent from {schema}.runs r where r.id = v_id;
        if found then
            perform 1 from {schema}.runs r where r.key = any(array[v_old, v_parent]) order by r.key for update;
            -- Somebody else may have renamed it meanwhile.
            perform 1 from {schema}.runs r where r.key = v_old and r.id = v_id;
            continue when not found;
            return query
            select r.key, r.owner is not null and r.owner = p_owner[1] and r.epoch = 1 and r.seq = 1
              from {schema}.runs r join {schema}.history h on h.run_key = r.key and h.seq = 1
             where r.key = v_old and h.at = h_at[1] and h.type = h_type[1] and h.data = h_data[1]
               and h.name is not distinct from h_name[1];
            if found then
                return;
            end if;
            perform {schema}.terminate(p_now, v_id, e_at, e_type, e_name, e_data);
            v_copy := 1;
            while exists (select 1 from {schema}.runs r where r.id = v_id || '~' || v_copy) loop
                v_copy := v_copy + 1;
            end loop;
            v_from := v_id || '~' || v_copy;
            update {schema}.runs r set id = v_from where r.key = v_old;
        end if;
        return query
        with fresh as materialized (
            select s.key, s.owned from {schema}.start(p_now, p_id, p_lane, p_priority, p_not_before,
                p_deadline, p_tags, p_parent_key, p_parent_cmd, p_owner, h_at, h_type, h_name, h_data) s)
        select f.key, f.owned from fresh f;
        if found then
            update {schema}.runs r set retried_from = v_from where r.id = v_id and v_from is not null;
            return;
        end if;
    end loop;
end $fn$;

-- Release runs that other code than `p_code` blocked, appending an event to each. A locked one waits
-- for the next call.
create function {schema}.unblock(
    p_now timestamptz, p_lanes integer[], p_codes text[],
    h_at timestamptz, h_cmd integer, h_type smallint, h_name text, h_data bytea)
    returns bigint
    language plpgsql
    set jit = off
as $fn$
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_count bigint;
begin
    with held as materialized (
        select r.key from {schema}.runs r
         where r.hold = 2 and r.lane = any(p_lanes) and (r.blocked_by is null or r.blocked_by <> all(p_codes))
           and r.owner is null and r.finished_at is null
         order by r.key for no key update skip locked),
    freed as (
        update {schema}.runs r
           set hold = 0, blocked_by = null, waiting_for = null, seq = r.seq + 1,
               recoveries = 0, recovered_seq = r.seq + 1,
               ready_at = greatest(r.not_before, least(r.ready_at, v_now))
          from held where r.key = held.key
        returning r.key, r.seq)
    insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
    select f.key, f.seq, h_at, h_cmd, h_type, h_name, h_data from freed f;
    get diagnostics v_count = row_count;
    return v_count;
end $fn$;
