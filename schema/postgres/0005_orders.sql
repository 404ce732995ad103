-- Orders from outside that are carried out at once: the end of a run, its restart, and holds.
--
-- Whoever ends a run tells others of it in the same transaction: its parent and everybody who follows it,
-- and the children that end with it. So all their rows are locked first, in ONE statement by ascending
-- key, as everybody does who waits for locks. Who they are is only certain under the run's own lock
-- (children and followers come in by its row): if the list has grown, all locks are given back, and it is
-- read and locked anew.

-- Lock one run. Answers its key; null: no such run.
create function {schema}.lock_run(p_id text) returns bigint
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
declare
    v_key bigint;
begin
    loop
        select r.key into v_key from {schema}.runs r where r.id = p_id;
        if not found then
            return null;
        end if;
        perform 1 from {schema}.runs r where r.key = v_key and r.id = p_id for no key update;
        if found then
            return v_key;
        end if; -- else renamed by a restart meanwhile
    end loop;
end $fn$;

-- Who is told of a run's end, and as which of their commands: its parent, and its followers. The latter
-- stand in the history (type 53, `<key>:<cmd>`) and, as long as it has not read of them, in the inbox.
create function {schema}.listeners(p_key bigint) returns table (key bigint, cmd integer)
    language sql stable
    set jit = off set enable_seqscan = off
as $fn$
    select r.parent_key, r.parent_cmd from {schema}.runs r
     where r.key = p_key and r.parent_key is not null and r.parent_cmd is not null
    union
    select split_part(h.name, ':', 1)::bigint, split_part(h.name, ':', 2)::integer
      from {schema}.history h
     where h.run_key = p_key and h.type = 53 and h.name ~ '^[0-9]+:[0-9]+$'
    union
    select split_part(i.name, ':', 2)::bigint, split_part(i.name, ':', 3)::integer
      from {schema}.runs r join {schema}.inbox i on i.run_key = r.key and i.n > r.consumed
     where r.key = p_key and i.name ~ '^~follow:[0-9]+:[0-9]+$'
$fn$;

-- Children that end with a run.
create function {schema}.dependants(p_key bigint) returns setof bigint
    language sql stable
    set jit = off set enable_seqscan = off
as $fn$
    select c.key from {schema}.runs c
     where c.parent_key = p_key and c.finished_at is null and c.abandoned is not true
$fn$;

-- Lock a run and everybody whom its end concerns. Answers its key; null: no such run.
create function {schema}.seize(p_id text) returns bigint
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
declare
    v_key  bigint;
    v_open boolean;
    v_keys bigint[];
begin
    loop
        select r.key, r.finished_at is null into v_key, v_open from {schema}.runs r where r.id = p_id;
        if not found then
            return null;
        end if;
        v_keys := array[v_key];
        if v_open then
            v_keys := v_keys || array(select l.key from {schema}.listeners(v_key) l)
                             || array(select * from {schema}.dependants(v_key));
        end if;
        begin
            perform 1 from {schema}.runs r where r.key = any(v_keys) order by r.key for no key update;
            -- Renamed by a restart meanwhile: another run has the id now.
            perform 1 from {schema}.runs r where r.key = v_key and r.id = p_id;
            if found and (not v_open
                          or (array(select l.key from {schema}.listeners(v_key) l)
                              || array(select * from {schema}.dependants(v_key))) <@ v_keys) then
                return v_key;
            end if;
            raise exception using errcode = 'DU001';
        exception when sqlstate 'DU001' then
            null; -- which gives the locks back
        end;
    end loop;
end $fn$;

-- End a run that is seized, unless it has ended. Parent and followers get `~child:<cmd>:<type>` with the
-- event's data, children that end with it `~cancel` with `p_cancel`. Answers the status it has now.
create function {schema}.end_run(
    p_now timestamptz, p_key bigint, h_at timestamptz, h_type smallint, h_name text, h_data bytea,
    p_cancel bytea)
    returns text
    language plpgsql
    set jit = off set enable_seqscan = off
as $fn$
declare
    v_now    timestamptz := coalesce(p_now, clock_timestamp());
    v_status text;
    v_seq    bigint;
    v_keys   bigint[];
begin
    select r.status into v_status from {schema}.runs r where r.key = p_key and r.finished_at is not null;
    if found then
        return v_status;
    end if;
    v_keys := array(select l.key from {schema}.listeners(p_key) l)
              || array(select * from {schema}.dependants(p_key));
    with post as materialized (
        select l.key, '~child:' || l.cmd || ':' || h_type as name, h_data as data, 0 as control,
               row_number() over (partition by l.key order by l.cmd) as nth
          from {schema}.listeners(p_key) l where l.key <> p_key),
    orders as materialized (
        select c.key, '~cancel'::text as name, p_cancel as data, 1 as control,
               1 + (select count(*) from post p where p.key = c.key) as nth
          from {schema}.dependants(p_key) as c(key)),
    mail as materialized (
        select * from post union all select * from orders),
    woken as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + t.cnt,
               control_head = coalesce(r.inbox_head + t.control, r.control_head),
               ready_at = greatest(r.not_before, least(r.ready_at, v_now))
          from (select m.key, count(*) as cnt, max(m.nth) filter (where m.control = 1) as control
                  from mail m group by m.key) t
         where r.key = t.key and r.key = any(v_keys) and r.finished_at is null
        returning r.key, r.inbox_head - t.cnt as base)
    insert into {schema}.inbox (run_key, n, name, data)
    select m.key, w.base + m.nth, m.name, m.data from mail m join woken w on w.key = m.key;
    update {schema}.runs r
       set status = 'terminated', owner = null, epoch = r.epoch + 1, seq = r.seq + 1, hold = 0,
           ready_at = null, waiting_for = null, blocked_by = null, finished_at = v_now
     where r.key = p_key returning r.seq into v_seq;
    insert into {schema}.history (run_key, seq, at, type, name, data)
    values (p_key, v_seq, h_at, h_type, h_name, h_data);
    delete from {schema}.waits w where w.run_key = p_key;
    return 'terminated';
end $fn$;

-- End a run at once. Answers the status that the run has now; null: no such run.
create function {schema}.terminate(
    p_now timestamptz, p_id text, h_at timestamptz, h_type smallint, h_name text, h_data bytea,
    p_cancel bytea)
    returns text
    language plpgsql
    set jit = off set lock_timeout = '2s'
as $fn$
declare
    v_key bigint := {schema}.seize(p_id);
begin
    return case when v_key is not null
                then {schema}.end_run(p_now, v_key, h_at, h_type, h_name, h_data, p_cancel) end;
end $fn$;

-- What a run is called that is the `p_number`-th to be replaced by a new one of its id. An id that is too
-- long for that loses its end: 255 is MAX_ID.
create function {schema}.replaced_id(p_id text, p_number bigint) returns text
    language sql immutable
as $fn$
    select left(p_id, 254 - length(p_number::text)) || '~' || p_number
$fn$;

-- Start one run; an older run of that id is terminated, keeps its history under `<id>~<n>`, and is what
-- the new one was retried from. All in one transaction. Repeated after a lost answer (the run of that
-- id began with exactly this event) it restarts nothing. One of another workflow stays as it is,
-- unless a child is to take its place: the answer is a null key. The arrays hold one element each.
create function {schema}.restart(
    p_now timestamptz, p_id text[], p_lane integer[], p_priority smallint[], p_not_before timestamptz[],
    p_deadline timestamptz[], p_tags text[], p_abandoned smallint[], p_parent_key bigint[],
    p_parent_cmd integer[], p_owner bigint[],
    h_at timestamptz[], h_type smallint[], h_name text[], h_data bytea[],
    e_at timestamptz, e_type smallint, e_name text, e_data bytea, p_cancel bytea)
    returns table (key bigint, owned boolean)
    language plpgsql
    set jit = off set lock_timeout = '2s'
as $fn$
declare
    v_id   text := p_id[1];
    v_old  bigint;
    v_copy bigint;
    v_step bigint := 1;
    v_from text;
begin
    loop
        v_old := {schema}.seize(v_id);
        if v_old is not null then
            return query
            select r.key, r.owner is not null and r.owner = p_owner[1] and r.epoch = 1 and r.seq = 1
              from {schema}.runs r join {schema}.history h on h.run_key = r.key and h.seq = 1
             where r.key = v_old and h.at = h_at[1] and h.type = h_type[1] and h.data = h_data[1]
               and h.name is not distinct from h_name[1];
            if found then
                return;
            end if;
            perform 1 from {schema}.runs r
               join {schema}.lanes o on o.id = r.lane join {schema}.lanes n on n.id = p_lane[1]
              where r.key = v_old and p_parent_key[1] is null and o.workflow <> n.workflow;
            if found then
                return query select null::bigint, false;
                return;
            end if;
            perform {schema}.end_run(p_now, v_old, e_at, e_type, e_name, e_data, p_cancel);
            -- One more than the number that its own predecessor got.
            select substring(r.retried_from from '~([0-9]{1,9})$')::bigint into v_copy
              from {schema}.runs r
             where r.key = v_old
               and r.retried_from = {schema}.replaced_id(
                       v_id, substring(r.retried_from from '~([0-9]{1,9})$')::bigint);
            v_copy := coalesce(v_copy, 0) + 1;
            -- Somebody may have chosen such an id himself.
            while exists (select 1 from {schema}.runs r where r.id = {schema}.replaced_id(v_id, v_copy)) loop
                v_copy := v_copy + v_step;
                v_step := v_step * 2;
            end loop;
            v_from := {schema}.replaced_id(v_id, v_copy);
            update {schema}.runs r set id = v_from where r.key = v_old;
        end if;
        return query
        with fresh as materialized (
            select s.key, s.owned from {schema}.start(p_now, p_id, p_lane, p_priority, p_not_before,
                p_deadline, p_tags, p_abandoned, p_parent_key, p_parent_cmd, p_owner,
                h_at, h_type, h_name, h_data) s)
        select f.key, f.owned from fresh f;
        if found then
            update {schema}.runs r set retried_from = v_from where r.id = v_id and v_from is not null;
            return;
        end if;
    end loop;
end $fn$;

-- A message of durable's own to one run, whose row is locked.
create function {schema}.tell(p_now timestamptz, p_key bigint, p_name text, p_data bytea) returns void
    language sql
as $fn$
    with woken as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + 1, ready_at = greatest(r.not_before, least(r.ready_at, p_now))
         where r.key = p_key returning r.inbox_head)
    insert into {schema}.inbox (run_key, n, name, data) select p_key, w.inbox_head, p_name, p_data from woken w
$fn$;

-- Hold a run: at once, with an event, when nobody owns it; else by a message. Answers the status that it
-- has now; one that has ended, or is held already, keeps it; null: no such run.
create function {schema}.pause(
    p_now timestamptz, p_id text, h_at timestamptz, h_type smallint, h_name text, h_data bytea)
    returns text
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
declare
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_key bigint := {schema}.lock_run(p_id);
    v_run {schema}.runs;
begin
    select * into v_run from {schema}.runs r where r.key = v_key;
    if not found then
        return null;
    elsif v_run.finished_at is not null or v_run.hold <> 0 then
        return {schema}.shown_status(v_run.status, v_run.hold);
    elsif v_run.owner is not null then
        perform {schema}.tell(v_now, v_run.key, '~pause', h_data);
        return v_run.status;
    end if;
    update {schema}.runs r set hold = 1, seq = r.seq + 1 where r.key = v_run.key;
    insert into {schema}.history (run_key, seq, at, type, name, data)
    values (v_run.key, v_run.seq + 1, h_at, h_type, h_name, h_data);
    return 'paused';
end $fn$;

-- Lift the hold of a paused run, with an event, and make it ready. A run that goes on and may have read a
-- `~pause`, or will read one, gets `~resume`. Answers the status that it has now; null: no such run.
create function {schema}.resume(
    p_now timestamptz, p_id text, h_at timestamptz, h_type smallint, h_name text, h_data bytea)
    returns text
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
declare
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_key bigint := {schema}.lock_run(p_id);
    v_run {schema}.runs;
    v_unread boolean;
begin
    select * into v_run from {schema}.runs r where r.key = v_key;
    if not found then
        return null;
    elsif v_run.finished_at is not null or v_run.hold = 2 then
        return {schema}.shown_status(v_run.status, v_run.hold);
    end if;
    v_unread := exists (
        select 1 from {schema}.inbox i
         where i.run_key = v_run.key and i.n > v_run.consumed and i.name = '~pause');
    if v_run.hold = 0 then
        if v_run.owner is not null or v_unread or (
            select h.type = 91 from {schema}.history h
             where h.run_key = v_run.key and h.type in (91, 92)
             order by h.seq desc limit 1) then
            perform {schema}.tell(v_now, v_run.key, '~resume', h_data);
        end if;
        return v_run.status;
    end if;
    update {schema}.runs r
       set hold = 0, seq = r.seq + 1, ready_at = greatest(r.not_before, least(r.ready_at, v_now))
     where r.key = v_run.key;
    insert into {schema}.history (run_key, seq, at, type, name, data)
    values (v_run.key, v_run.seq + 1, h_at, h_type, h_name, h_data);
    if v_unread then
        perform {schema}.tell(v_now, v_run.key, '~resume', h_data);
    end if;
    return v_run.status;
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
