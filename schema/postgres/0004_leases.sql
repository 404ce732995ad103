-- Leases, and what becomes of the runs of a worker that is gone.
--
-- The reaper deletes lease rows first and frees runs in *later statements*, which then see what was
-- claimed while the delete waited. Owners without a row are first collected into an array: an anti-join
-- inside the update would be judged by an old snapshot, and rob a worker registered since. What is
-- locked now is freed by the next sweep.

create function {schema}.register(
    p_now timestamptz, p_ttl double precision, p_name text, p_host text, p_pid integer, p_boot text,
    p_code text, p_queues text[], p_workflows text[])
    returns table (id bigint, expires_at timestamptz, now timestamptz)
    language plpgsql
as $fn$
#variable_conflict use_column
declare
    v_now timestamptz := coalesce(p_now, clock_timestamp());
begin
    return query
    with w as (
        insert into {schema}.workers (expires_at, ttl, pid, name, host, boot, code, queues, workflows)
        values (v_now + p_ttl * interval '1 second', p_ttl, p_pid, p_name, p_host, p_boot, p_code,
                p_queues, p_workflows)
        returning id, expires_at),
    n as (
        insert into {schema}.worker_names (id, registered_at, pid, name, host, code)
        select w.id, v_now, p_pid, p_name, p_host, p_code from w)
    select w.id, w.expires_at, v_now from w;
end $fn$;

-- Ids that own runs and have no lease. Walks from owner to owner, however many runs each has.
create function {schema}.orphans() returns bigint[]
    language plpgsql
    set jit = off set enable_seqscan = off
as $fn$
begin
    return (
    with recursive o(id) as (
        select min(r.owner) from {schema}.runs r where r.owner is not null
        union all
        select (select min(r.owner) from {schema}.runs r where r.owner > o.id) from o where o.id is not null)
    select coalesce(array_agg(o.id), '{}') from o
     where o.id is not null and not exists (select 1 from {schema}.workers w where w.id = o.id));
end $fn$;

-- Free the runs of expired workers (if `p_expired`), of `p_gone`, and of owners that have no lease at all. A run that
-- was recovered more than `p_max` times without progress is blocked, and its history says so (h_).
-- It also sweeps out publications whose time is over.
create function {schema}.reap(
    p_now timestamptz, p_expired boolean, p_gone bigint[], p_max integer,
    h_at timestamptz, h_cmd integer, h_type smallint, h_name text, h_data bytea)
    returns table (workers bigint[], freed bigint, blocked bigint)
    language plpgsql
    set jit = off set enable_seqscan = off
as $fn$
#variable_conflict use_column
declare
    v_now  timestamptz := coalesce(p_now, clock_timestamp());
    v_dead bigint[];
begin
    with gone as (
        delete from {schema}.workers w where w.id in (
            select x.id from {schema}.workers x
             where (p_expired and x.expires_at < v_now) or x.id = any(p_gone)
             order by x.id for update skip locked)
        returning w.id)
    select coalesce(array_agg(g.id order by g.id), '{}') into v_dead from gone g;
    workers := v_dead;
    v_dead := v_dead || {schema}.orphans();
    if cardinality(v_dead) > 0 then
        return query
        with held as materialized (
            select r.key from {schema}.runs r where r.owner = any(v_dead)
             order by r.key for no key update skip locked),
        back as (
            update {schema}.runs r
               set owner = null, lost_owner = r.owner, ready_at = v_now, recovered_seq = r.seq,
                   recoveries = case when r.seq > coalesce(r.recovered_seq, 0) then 1 else r.recoveries + 1 end,
                   hold = case when r.seq <= r.recovered_seq and r.recoveries >= p_max then 2 else r.hold end,
                   seq = case when r.seq <= r.recovered_seq and r.recoveries >= p_max
                              then r.seq + 1 else r.seq end,
                   -- What killed them was that code: other code may try again.
                   blocked_by = case when r.seq <= r.recovered_seq and r.recoveries >= p_max
                                     then (select n.code from {schema}.worker_names n where n.id = r.owner)
                                     else r.blocked_by end
              from held where r.key = held.key and r.owner = any(v_dead)
            returning r.key, r.seq, r.seq > r.recovered_seq as stopped),
        written as (
            insert into {schema}.history (run_key, seq, at, cmd, type, name, data)
            select b.key, b.seq, h_at, h_cmd, h_type, h_name, h_data from back b where b.stopped)
        select reap.workers, count(*) filter (where not b.stopped), count(*) filter (where b.stopped)
          from back b;
    else
        freed := 0;
        blocked := 0;
        return next;
    end if;
    perform {schema}.forget(v_now, 1000);
end $fn$;

-- Give back what the worker owns and end its lease. The lease goes first, so that its own commits and
-- claims under way are either seen here or write nothing.
create function {schema}.unregister(p_now timestamptz, p_worker bigint) returns bigint
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
declare
    v_now   timestamptz := coalesce(p_now, clock_timestamp());
    v_count bigint;
begin
    delete from {schema}.workers w where w.id = p_worker;
    with held as materialized (
        select r.key from {schema}.runs r where r.owner = p_worker order by r.key for no key update skip locked)
    update {schema}.runs r
       set owner = null, ready_at = greatest(r.not_before, v_now)
      from held where r.key = held.key and r.owner = p_worker;
    get diagnostics v_count = row_count;
    return v_count;
end $fn$;
