-- What a worker does to the runs it drives: claim them, append to their histories, let go of them.
--
-- All of it is fenced twice. First the worker's own row is locked FOR KEY SHARE, which holds off the
-- reaper until this transaction ends; a worker without a row writes nothing. Then every run must have
-- the owner, epoch and seq that the worker believes in. Run rows are locked in one statement, by
-- ascending key, and skipped where somebody else holds them: so there are no deadlocks and nobody's
-- open transaction stalls a batch. A run's row is updated once per statement, and what becomes of
-- `ready_at` is computed from the locked row's own columns alone: after a lock wait PostgreSQL shows a
-- statement the newest version of the *locked* row, and old versions of everything else.
--
-- Settings are part of the functions, so that they hold on pooled connections too. Every real table is
-- reached by `key = any(array)`: PostgreSQL takes a busy small table for one row, and plans of its own
-- choice turn quadratic. `p_now` replaces the clock in tests.

-- The fast path of a commit: events appended, nothing else. One answer per run, in the order asked.
-- Messages that entered the history stay in the inbox until the run parks or ends.
create function {schema}.append(
    p_worker bigint, p_now timestamptz,
    p_key bigint[], p_epoch bigint[], p_seq bigint[], p_new bigint[], p_consumed bigint[],
    h_key bigint[], h_seq bigint[], h_at timestamptz[], h_cmd integer[], h_type smallint[],
    h_name text[], h_data bytea[])
    returns table (code smallint, seq bigint, inbox_head bigint)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
    perform 1 from {schema}.workers w where w.id = p_worker for key share;
    if not found then
        return query select 9::smallint, 0::bigint, 0::bigint from unnest(p_key);
        return;
    end if;
    return query
    with own as materialized (
        select * from unnest(p_key, p_epoch, p_seq, p_new, p_consumed)
            with ordinality as o(key, epoch, seq, new, consumed, ord)),
    locked as materialized (
        select r.key, r.owner, r.epoch, r.seq, r.inbox_head from {schema}.runs r
         where r.key = any(p_key) order by r.key for no key update of r skip locked),
    done as (
        update {schema}.runs r
           set seq = o.new, consumed = o.consumed,
               lost_owner = case when o.new > r.seq then null else r.lost_owner end,
               ready_at = case when r.inbox_head > o.consumed then least(r.ready_at, v_now) end
          from own o join locked l on l.key = o.key
         where l.owner = p_worker and l.epoch = o.epoch and l.seq = o.seq
           and r.key = o.key and r.key = any(p_key)
        returning r.key, r.inbox_head),
    written as (
        insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
        select h.key, h.seq, h.at, h.cmd, h.type, h.name, h.data
          from unnest(h_key, h_seq, h_at, h_cmd, h_type, h_name, h_data)
               as h(key, seq, at, cmd, type, name, data)
          join done on done.key = h.key)
    select (case
                when d.key is not null then 0
                when l.key is null then
                    case when exists (select 1 from {schema}.runs z where z.key = o.key) then 1 else 2 end
                when l.owner = p_worker and l.epoch = o.epoch then 3
                else 2 end)::smallint,
           case when d.key is not null then o.new else coalesce(l.seq, 0) end,
           coalesce(d.inbox_head, l.inbox_head, 0)
      from own o left join locked l on l.key = o.key left join done d on d.key = o.key
     order by o.ord;
end $fn$;

-- The same for a batch in which runs end: `p_ended` has the status that a run ends with, null for one that
-- goes on. Runs that have something to tell or to start end by the full statement, which costs more than
-- twice as much. What a run has waited for and what lay in its inbox goes with its end.
create function {schema}.append_or_end(
    p_worker bigint, p_now timestamptz,
    p_key bigint[], p_epoch bigint[], p_seq bigint[], p_new bigint[], p_consumed bigint[], p_ended text[],
    h_key bigint[], h_seq bigint[], h_at timestamptz[], h_cmd integer[], h_type smallint[],
    h_name text[], h_data bytea[])
    returns table (code smallint, seq bigint, inbox_head bigint)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
    perform 1 from {schema}.workers w where w.id = p_worker for key share;
    if not found then
        return query select 9::smallint, 0::bigint, 0::bigint from unnest(p_key);
        return;
    end if;
    return query
    with own as materialized (
        select * from unnest(p_key, p_epoch, p_seq, p_new, p_consumed, p_ended)
            with ordinality as o(key, epoch, seq, new, consumed, ended, ord)),
    locked as materialized (
        select r.key, r.has_waits, r.owner, r.epoch, r.seq, r.inbox_head, r.control_head from {schema}.runs r
         where r.key = any(p_key) order by r.key for no key update of r skip locked),
    done as (
        update {schema}.runs r
           set seq = o.new, consumed = o.consumed,
               lost_owner = case when o.new > r.seq then null else r.lost_owner end,
               owner = case when o.ended is null then r.owner end,
               status = coalesce(o.ended, r.status),
               hold = case when o.ended is null then r.hold else 0 end,
               blocked_by = case when o.ended is null then r.blocked_by end,
               waiting_for = case when o.ended is null then r.waiting_for end,
               finished_at = case when o.ended is null then r.finished_at else v_now end,
               ready_at = case when o.ended is null and r.inbox_head > o.consumed
                               then least(r.ready_at, v_now) end
          from own o join locked l on l.key = o.key
         where l.owner = p_worker and l.epoch = o.epoch and l.seq = o.seq
           -- A run must not end before it has seen what was said to be seen (a cancel).
           and not (o.ended is not null and coalesce(l.control_head, 0) > o.consumed)
           and r.key = o.key and r.key = any(p_key)
        returning r.key, r.inbox_head, o.ended is not null as ended),
    over as (
        delete from {schema}.waits w using done d join locked l on l.key = d.key
         where w.run_key = any(p_key) and w.run_key = d.key and d.ended and l.has_waits
           -- Decided once: without it every end would probe the index.
           and exists (select 1 from locked x where x.has_waits)),
    eaten as (
        delete from {schema}.inbox i using done d join own o on o.key = d.key
         where i.run_key = any(p_key) and i.run_key = d.key and d.ended and i.n <= o.consumed
           and exists (select 1 from own x where x.ended is not null and x.consumed > 0)),
    written as (
        insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
        select h.key, h.seq, h.at, h.cmd, h.type, h.name, h.data
          from unnest(h_key, h_seq, h_at, h_cmd, h_type, h_name, h_data)
               as h(key, seq, at, cmd, type, name, data)
          join done on done.key = h.key)
    select (case
                when d.key is not null then 0
                when l.key is null then
                    case when exists (select 1 from {schema}.runs z where z.key = o.key) then 1 else 2 end
                when l.owner = p_worker and l.epoch = o.epoch then
                    case when l.seq <> o.seq then 3
                         when o.ended is not null and coalesce(l.control_head, 0) > o.consumed then 5
                         else 1 end
                else 2 end)::smallint,
           case when d.key is not null then o.new else coalesce(l.seq, 0) end,
           coalesce(d.inbox_head, l.inbox_head, 0)
      from own o left join locked l on l.key = o.key left join done d on d.key = o.key
     order by o.ord;
end $fn$;

-- A commit in full. Per run, all or nothing: events (h_), messages to other runs (m_), children (c_),
-- and what becomes of it: kept (0), parked (1) or finished (2). The end of a run ends its waits; that
-- costs one look at a flag where there are none. What is rarer still stands in `commit_more`.
-- Codes: 0 applied, 1 busy (its row, or a target's, is locked), 2 lost, 3 still mine but of other
-- length, 5 mine, but it must read its inbox before it ends, 9 the lease is gone. With `p_wait`, locked
-- rows are waited for, up to the lock timeout.
create function {schema}.commit(
    p_worker bigint, p_now timestamptz, p_wait boolean,
    p_key bigint[], p_epoch bigint[], p_seq bigint[], p_new bigint[], p_consumed bigint[],
    p_act smallint[], p_hold smallint[], p_wake timestamptz[],
    p_status text[], p_blocked_by text[], p_waiting_for text[],
    h_key bigint[], h_seq bigint[], h_at timestamptz[], h_cmd integer[], h_type smallint[],
    h_name text[], h_data bytea[],
    m_from bigint[], m_to bigint[], m_name text[], m_data bytea[],
    c_parent bigint[], c_cmd integer[], c_id text[], c_lane integer[], c_priority smallint[],
    c_not_before timestamptz[], c_deadline timestamptz[], c_tags text[], c_abandoned smallint[],
    c_at timestamptz[], c_type smallint[], c_name text[], c_data bytea[])
    returns table (code smallint, seq bigint, inbox_head bigint, children text[])
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_keys  bigint[] := p_key || m_to;
    v_ended text[] := array['completed', 'failed', 'cancelled', 'terminated', 'compensated',
                            'compensation_failed'];
begin
    perform 1 from {schema}.workers w where w.id = p_worker for key share;
    if not found then
        return query select 9::smallint, 0::bigint, 0::bigint, null::text[] from unnest(p_key);
        return;
    end if;
    if not p_wait then
        -- All that can still wait is the id of a child that somebody else is inserting.
        perform set_config('lock_timeout', '250ms', true);
    else
        perform 1 from {schema}.runs r where r.key = any(v_keys) order by r.key for no key update;
    end if;
    return query
    with own as materialized (
        select * from unnest(p_key, p_epoch, p_seq, p_new, p_consumed, p_act, p_hold, p_wake,
                             p_status, p_blocked_by, p_waiting_for)
            with ordinality as o(key, epoch, seq, new, consumed, act, hold, wake,
                                 status, blocked_by, waiting_for, ord)),
    sent as materialized (
        select m.*, m.name = '~cancel' or left(m.name, 8) = '~follow:' as control
          -- Whoever follows a run, or cancels it, must be heard before it ends.
          from unnest(m_from, m_to, m_name, m_data) with ordinality as m(src, dst, name, data, ord)),
    locked as materialized (
        select r.key, r.has_waits, r.owner, r.epoch, r.seq, r.inbox_head, r.control_head, r.status
          from {schema}.runs r
         where r.key = any(v_keys) order by r.key for no key update of r skip locked),
    -- Runs of which a target is locked by somebody else; a target that does not exist is no obstacle.
    stuck as materialized (
        select distinct m.src from sent m left join locked t on t.key = m.dst
         where t.key is null and exists (select 1 from {schema}.runs z where z.key = m.dst)),
    ok as materialized (
        select o.* from own o join locked l on l.key = o.key left join stuck s on s.src = o.key
         where l.owner = p_worker and l.epoch = o.epoch and l.seq = o.seq and s.src is null
           -- A run must not end before it has seen what was said to be seen (a cancel).
           and not (o.act = 2 and coalesce(l.control_head, 0) > o.consumed)),
    mail as materialized (
        select m.dst, m.name, m.data, m.control, row_number() over (partition by m.dst order by m.ord) as nth
          from sent m join ok on ok.key = m.src join locked l on l.key = m.dst
         where l.status <> all(v_ended)),
    change as (
        select coalesce(ok.key, t.dst) as key, ok.key is not null as mine, ok.new, ok.consumed, ok.act,
               ok.hold, ok.wake, ok.status, ok.blocked_by, ok.waiting_for, t.control,
               -- Nothing reaches a run that ends in this very statement.
               case when ok.act = 2 then 0 else coalesce(t.cnt, 0) end as cnt
          from ok full join (select dst, count(*) as cnt, max(nth) filter (where control) as control
                               from mail group by dst) t on t.dst = ok.key),
    done as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + c.cnt,
               control_head = coalesce(r.inbox_head + c.control, r.control_head),
               seq = case when c.mine then c.new else r.seq end,
               consumed = case when c.mine then c.consumed else r.consumed end,
               -- Whoever lets go without having written anything leaves the loss to the next owner's history.
               lost_owner = case when c.mine and c.new > r.seq then null else r.lost_owner end,
               -- No status given: what the run is under its hold.
               status = case when not c.mine then r.status
                             when c.status is not null then c.status
                             when r.status = 'running' then 'waiting' else r.status end,
               owner = case when c.mine and c.act > 0 then null else r.owner end,
               -- A pause does not hold a run that has something to read: it may be the end of that pause.
               hold = case when not c.mine or c.act = 0 then r.hold
                           when c.hold = 1 and r.inbox_head + c.cnt > c.consumed then 0 else c.hold end,
               blocked_by = case when c.mine and c.act > 0 then c.blocked_by else r.blocked_by end,
               waiting_for = case when c.mine and c.act > 0 then c.waiting_for else r.waiting_for end,
               finished_at = case when c.mine and c.act = 2 then v_now else r.finished_at end,
               ready_at = case when not c.mine then greatest(r.not_before, least(r.ready_at, v_now))
                               when c.act = 2 then null
                               when r.inbox_head + c.cnt > c.consumed then least(r.ready_at, v_now)
                               else c.wake end
          from change c
         where r.key = c.key and r.key = any(v_keys)
        returning r.key, r.inbox_head, c.mine, c.cnt),
    born as materialized (
        select distinct on (c.id) c.* from unnest(c_parent, c_cmd, c_id, c_lane, c_priority, c_not_before,
                                                  c_deadline, c_tags, c_abandoned, c_at, c_type, c_name,
                                                  c_data)
            as c(parent, cmd, id, lane, priority, not_before, deadline, tags, abandoned, at, type, name, data)
          join ok on ok.key = c.parent
         order by c.id, c.parent, c.cmd),
    started as (
        insert into {schema}.runs (id, lane, priority, seq, created_at, ready_at, not_before, deadline,
                                   tags, parent_key, parent_cmd, abandoned)
        select b.id, b.lane, b.priority, 1, v_now, coalesce(b.not_before, v_now), b.not_before, b.deadline,
               b.tags::jsonb, b.parent, b.cmd, nullif(b.abandoned, 0) = 1
          from born b order by b.id
        on conflict (id) do nothing
        returning key, id, parent_key),
    written as (
        insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
        select h.key, h.seq, h.at, h.cmd, h.type, h.name, h.data
          from unnest(h_key, h_seq, h_at, h_cmd, h_type, h_name, h_data)
               as h(key, seq, at, cmd, type, name, data)
          join ok on ok.key = h.key
        union all
        select s.key, 1, b.at, null, b.type, b.name, b.data
          from started s join born b on b.id = s.id),
    posted as (
        insert into {schema}.inbox (run_key, n, name, data)
        select m.dst, d.inbox_head - d.cnt + m.nth, m.name, m.data
          from mail m join done d on d.key = m.dst where d.cnt > 0),
    over as (
        delete from {schema}.waits w using ok join locked l on l.key = ok.key
         where w.run_key = any(p_key) and w.run_key = ok.key and ok.act = 2 and l.has_waits
           -- Decided once: without it every end would probe the index.
           and exists (select 1 from locked x where x.has_waits)),
    eaten as (
        delete from {schema}.inbox i using ok
         where i.run_key = any(p_key) and i.run_key = ok.key and i.n <= ok.consumed
           and ok.act > 0 and ok.consumed > 0)
    select (case
                when d.key is not null then 0
                when l.key is null then
                    case when exists (select 1 from {schema}.runs z where z.key = o.key) then 1 else 2 end
                when l.owner = p_worker and l.epoch = o.epoch then
                    case when l.seq <> o.seq then 3
                         when o.act = 2 and coalesce(l.control_head, 0) > o.consumed then 5
                         else 1 end
                else 2 end)::smallint,
           case when d.key is not null then o.new else coalesce(l.seq, 0) end,
           coalesce(d.inbox_head, l.inbox_head, 0),
           k.ids
      from own o
      left join locked l on l.key = o.key
      left join done d on d.key = o.key and d.mine
      left join (select s.parent_key, array_agg(s.id order by s.id) as ids
                   from started s group by s.parent_key) k on k.parent_key = o.key
     order by o.ord;
end $fn$;

-- A commit that brings what few do: beginnings of generations (`p_first`, null for the others), messages
-- to ids (m_id, where m_to is null), waits that others can find (w_new, JSON, of the runs in w_run), and
-- waits that are over (e_). Ids are resolved first; the rest follows for the runs that were applied,
-- whose rows are still locked. A child that this commit starts can be sent messages too.
create function {schema}.commit_more(
    p_worker bigint, p_now timestamptz, p_wait boolean,
    p_key bigint[], p_epoch bigint[], p_seq bigint[], p_new bigint[], p_consumed bigint[],
    p_act smallint[], p_hold smallint[], p_wake timestamptz[],
    p_status text[], p_blocked_by text[], p_waiting_for text[],
    h_key bigint[], h_seq bigint[], h_at timestamptz[], h_cmd integer[], h_type smallint[],
    h_name text[], h_data bytea[],
    m_from bigint[], m_to bigint[], m_name text[], m_data bytea[],
    c_parent bigint[], c_cmd integer[], c_id text[], c_lane integer[], c_priority smallint[],
    c_not_before timestamptz[], c_deadline timestamptz[], c_tags text[], c_abandoned smallint[],
    c_at timestamptz[], c_type smallint[], c_name text[], c_data bytea[],
    p_first bigint[], m_id text[], w_run bigint[], w_new text, e_run bigint[], e_cmd integer[])
    returns table (code smallint, seq bigint, inbox_head bigint, children text[])
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_to   bigint[] := m_to;
    v_ok   bigint[] := '{}';
    v_born text[] := '{}';
    v_run  record;
begin
    if cardinality(m_id) > 0 then
        select array_agg(coalesce(m.dst, r.key) order by m.ord) into v_to
          from unnest(m_from, m_to, m_id, m_name) with ordinality as m(src, dst, id, name, ord)
          -- An id may belong to a stranger: whoever cancels by id means a child of its own.
          left join {schema}.runs r on r.id = m.id and r.id = any(m_id)
                                   and (m.name <> '~cancel' or r.parent_key = m.src);
    end if;
    for v_run in
        select c.* from {schema}.commit(
            p_worker, p_now, p_wait, p_key, p_epoch, p_seq, p_new, p_consumed, p_act, p_hold, p_wake,
            p_status, p_blocked_by, p_waiting_for, h_key, h_seq, h_at, h_cmd, h_type, h_name, h_data,
            m_from, v_to, m_name, m_data, c_parent, c_cmd, c_id, c_lane, c_priority, c_not_before,
            c_deadline, c_tags, c_abandoned, c_at, c_type, c_name, c_data)
            with ordinality as c(code, seq, inbox_head, children, ord)
    loop
        if v_run.code = 0 then
            v_ok := v_ok || p_key[v_run.ord];
            v_born := v_born || coalesce(v_run.children, '{}');
        end if;
        code := v_run.code;
        seq := v_run.seq;
        inbox_head := v_run.inbox_head;
        children := v_run.children;
        return next;
    end loop;
    update {schema}.runs r
       set first_seq = coalesce(x.first, r.first_seq), has_waits = r.has_waits or r.key = any(w_run)
      from unnest(p_key, p_first) as x(key, first)
     where r.key = x.key and r.key = any(v_ok) and (x.first is not null or x.key = any(w_run));
    delete from {schema}.waits w using unnest(e_run, e_cmd) as e(run, cmd)
     where w.run_key = any(e_run) and w.run_key = any(v_ok) and w.run_key = e.run and w.cmd = e.cmd;
    insert into {schema}.waits (run_key, cmd, kind, names, key, due, recipients, seq)
    select w.run, w.cmd, w.kind, w.names, w.key,
           'epoch'::timestamptz + w.due * interval '1 microsecond', w.recipients, w.seq
      from json_to_recordset(w_new::json)
           as w(run bigint, cmd integer, kind smallint, names text[], key text, due bigint,
                recipients text[], seq bigint)
     where w.run = any(v_ok)
    on conflict (run_key, cmd) do update
       set kind = excluded.kind, names = excluded.names, key = excluded.key, due = excluded.due,
           recipients = excluded.recipients, seq = excluded.seq,
           answered_by = null, answered_at = null, subscribed = false;
    if cardinality(m_id) > 0 and cardinality(v_born) > 0 then
        with letters as materialized (
            select r.key, m.name, m.data, m.name = '~cancel' or left(m.name, 8) = '~follow:' as control,
                   row_number() over (partition by r.key order by m.ord) as nth
              from unnest(m_from, v_to, m_id, m_name, m_data) with ordinality
                   as m(src, dst, id, name, data, ord)
              join {schema}.runs r on r.id = m.id and r.id = any(v_born)
             where m.dst is null and m.src = any(v_ok)),
        told as (
            update {schema}.runs r set inbox_head = t.cnt, control_head = t.control
              from (select key, count(*) as cnt, max(nth) filter (where control) as control
                      from letters group by key) t
             where r.key = t.key and r.key = any(array(select key from letters)))
        insert into {schema}.inbox (run_key, n, name, data)
        select t.key, t.nth, t.name, t.data from letters t;
    end if;
end $fn$;

-- Take due runs of these lanes, by priority, then age. It stays flat with a million sleepers: one probe
-- per (lane, priority) finds the next priority and its head, and only the best heads are opened. All
-- conditions are repeated on the locked rows: candidates come from an older snapshot.
-- A claimed run looks due again after 10 s: a claim whose answer was lost is found by its owner then.
-- What has come for it comes along, by names and data from `consumed` on, unless it is much. The rows are
-- locked by an earlier statement, so that nothing is on its way that `inbox_head` counts.
-- A claim does not wait for the disk. A server that crashes may forget it, together with nothing that was
-- built on it: the log is written in order, so that a commit of the run which is on disk has its claim there
-- too. A run whose claim is forgotten has another owner, or none, for its worker's next commit: lost.
create function {schema}.claim(p_worker bigint, p_now timestamptz, p_lanes integer[], p_limit integer)
    returns table (key bigint, id text, lane integer, epoch bigint, seq bigint, consumed bigint,
                   inbox_head bigint, status text, now timestamptz, lost_owner bigint, recoveries integer,
                   first_seq bigint, names text[], datas bytea[])
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off set enable_hashjoin = off
    set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now  timestamptz := coalesce(p_now, clock_timestamp());
    v_keys bigint[];
begin
    perform 1 from {schema}.workers w where w.id = p_worker for key share;
    if not found then
        return;
    end if;
    perform set_config('synchronous_commit', 'off', true);
    with recursive probe(lane, priority, ready_at) as (
        select l, h.priority, h.ready_at
          from unnest(p_lanes) l cross join lateral (
               select r.priority, r.ready_at from {schema}.runs r
                where r.lane = l and r.owner is null and r.ready_at is not null and r.hold = 0
                order by r.priority desc, r.ready_at limit 1) h
        union all
        select p.lane, h.priority, h.ready_at
          from probe p cross join lateral (
               select r.priority, r.ready_at from {schema}.runs r
                where r.lane = p.lane and r.priority < p.priority
                  and r.owner is null and r.ready_at is not null and r.hold = 0
                order by r.priority desc, r.ready_at limit 1) h),
    heads as materialized (
        select lane, priority from probe where ready_at <= v_now
         order by priority desc, ready_at limit p_limit),
    candidates as materialized (
        select c.key, h.priority, c.ready_at
          from heads h cross join lateral (
               select r.key, r.ready_at from {schema}.runs r
                where r.lane = h.lane and r.priority = h.priority
                  and r.owner is null and r.ready_at is not null and r.hold = 0 and r.ready_at <= v_now
                order by r.ready_at limit 2 * p_limit) c
         order by h.priority desc, c.ready_at limit 4 * p_limit)
    select coalesce(array_agg(c.key), '{}') into v_keys from candidates c;
    -- COALESCE keeps the planner from a walk through the whole ready index for these few keys.
    select coalesce(array_agg(p.key), '{}') into v_keys from (
        select r.key from {schema}.runs r
         where r.key = any(v_keys) and coalesce(r.owner, 0) = 0 and r.hold = 0 and r.ready_at <= v_now
         order by r.priority desc, r.ready_at limit p_limit
           for no key update of r skip locked) p;
    return query
    with taken as (
    update {schema}.runs r
       set owner = p_worker, epoch = r.epoch + 1, ready_at = v_now + interval '10 seconds',
           status = case r.status when 'compensating' then r.status else 'running' end,
           started_at = coalesce(r.started_at, v_now), waiting_for = null
     where r.key = any(v_keys) and coalesce(r.owner, 0) = 0 and r.hold = 0
    returning r.key, r.id, r.lane, r.epoch, r.seq, r.consumed, r.inbox_head, r.status, r.lost_owner,
              -- In a row, without progress: what was written since makes it none.
              case when r.seq > coalesce(r.recovered_seq, 0) then 0 else r.recoveries end as recoveries,
              r.first_seq)
    select t.key, t.id, t.lane, t.epoch, t.seq, t.consumed, t.inbox_head, t.status, v_now,
           t.lost_owner, t.recoveries, coalesce(t.first_seq, 1), m.names, m.datas
      from taken t cross join lateral (
           select array_agg(i.name order by i.n) as names, array_agg(i.data order by i.n) as datas
             from {schema}.inbox i
            where t.inbox_head - t.consumed between 1 and 20 and i.run_key = t.key and i.n > t.consumed) m
     order by array_position(v_keys, t.key);
end $fn$;
