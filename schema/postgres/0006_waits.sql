-- What runs wait for so that others can find it, and what is kept for waits that have yet to begin.
--
-- A *wait* is a row that says: this run waits, as this command, for an event under a key, for a person's
-- input, for a request. It is written in the commit that says so in the history, and goes with it.
--
-- A *publication* is an event under a correlation key: it goes to every run that waits for its name under
-- that key, and is kept a while for waits that begin later. Two sides could miss each other: a wait that
-- is committed while somebody publishes. So whoever publishes, and whoever looks at what is kept for a
-- new wait (`subscribe`), first takes the *topic*, the pair of key and name; then looks, in a later
-- statement. Of the two the second one sees what the first one did, and both may see it: the idempotency
-- key `~pub:<number>` in the inbox makes it once. A topic is a row of a table that is empty whenever
-- nobody is in there: inserted to be locked (another's insert waits for it), and deleted again.
--
-- Numbers of publications come from one sequence, under the topic: so those of one topic are in the
-- order of their commits. Locks: topics by key and name, then runs by ascending key, then publications.
-- Nobody waits for publications but under their topic; whoever deletes old ones skips locked ones.

create table {schema}.waits (
    place        bigint generated always as identity, -- the order of listings
    run_key      bigint not null,
    seq          bigint not null,                     -- the history event that says all of it
    due          timestamptz,
    answered_at  timestamptz,                         -- an input: when it was answered; not read by the run yet
    cmd          integer not null,
    kind         smallint not null,                   -- 1 event, 2 input, 3 request
    subscribed   boolean not null default false,      -- what was kept for it has been handed out
    key          text collate "C",                    -- correlation key
    names        text[] not null,
    recipients   text[] not null,                     -- of whom an input is asked
    answered_by  text,
    primary key (run_key, cmd)
);
create index waits_key on {schema}.waits (key) where key is not null;
create index waits_listed on {schema}.waits (kind, place);

create table {schema}.publications (
    n        bigint generated always as identity primary key,
    until    timestamptz not null,                    -- how long it is kept
    reached  integer not null default 0,              -- how many runs have had it
    key      text collate "C" not null,
    name     text collate "C" not null,
    data     bytea not null,
    idem     text collate "C"
);
create index publications_topic on {schema}.publications (key, name);
create index publications_until on {schema}.publications (until);
create index publications_idem on {schema}.publications (key, name, idem) where idem is not null;

create unlogged table {schema}.topics (
    key   text collate "C" not null,
    name  text collate "C" not null,
    primary key (key, name)
);
comment on table {schema}.topics is 'Locks: rows live only inside the transactions that publish or look.';

-- Take an answer for an input that a run asks for: the first one. `accepted`: it is that one. Else, if
-- another was first and the run has not read it yet: `pending`, by whom and when. `p_token` is the
-- call's own: sent again it is the same answer, also when the run has read it since.
create function {schema}.answer(
    p_now timestamptz, p_id text, p_cmd integer, p_name text, p_data bytea, p_token text, p_by text,
    p_at timestamptz)
    returns table (accepted boolean, pending boolean, answered_by text, answered_at timestamptz)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_seqscan = off
as $fn$
#variable_conflict use_column
declare
    v_now  timestamptz := coalesce(p_now, clock_timestamp());
    v_key  bigint := {schema}.lock_run(p_id);
    v_wait {schema}.waits;
begin
    if exists (select 1 from {schema}.inbox_keys k where k.run_key = v_key and k.idem = '~answer:' || p_token) then
        return query select true, false, null::text, null::timestamptz;
        return;
    end if;
    select * into v_wait from {schema}.waits w where w.run_key = v_key and w.cmd = p_cmd;
    if not found or v_wait.kind <> 2 then
        return query select false, false, null::text, null::timestamptz;
        return;
    elsif v_wait.answered_at is not null then
        return query select false, true, v_wait.answered_by, v_wait.answered_at;
        return;
    end if;
    update {schema}.waits w set answered_by = p_by, answered_at = p_at where w.run_key = v_key and w.cmd = p_cmd;
    perform {schema}.tell(v_now, v_key, p_name, p_data);
    insert into {schema}.inbox_keys (run_key, idem, n)
    select r.key, '~answer:' || p_token, r.inbox_head from {schema}.runs r where r.key = v_key;
    return query select true, false, null::text, null::timestamptz;
end $fn$;

-- Take topics, in their order.
create function {schema}.enter(p_key text[], p_name text[]) returns void
    language plpgsql
    set lock_timeout = '2s'
as $fn$
begin
    insert into {schema}.topics (key, name)
    select distinct t.key, t.name from unnest(p_key, p_name) as t(key, name) order by 1, 2
    on conflict do nothing;
end $fn$;

-- Give them back; the end of the transaction does it.
create function {schema}.leave(p_key text[], p_name text[]) returns void
    language sql
    set enable_seqscan = off
as $fn$
    delete from {schema}.topics t using unnest(p_key, p_name) as x(key, name)
     where t.key = x.key and t.name = x.name
$fn$;

-- Put publications into the inboxes of runs, whose rows are locked; what a run has had it does not get.
create function {schema}.hand_out(p_now timestamptz, p_n bigint[], p_run bigint[]) returns void
    language plpgsql
    set jit = off set enable_nestloop = off set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $fn$
begin
    with due as materialized (
        select d.run, d.n, row_number() over (partition by d.run order by d.n) as nth
          from (select distinct x.run, x.n from unnest(p_n, p_run) as x(n, run)) d
         where (select k.n from {schema}.inbox_keys k
                 where k.run_key = d.run and k.idem = '~pub:' || d.n) is null
           and (select r.finished_at is null from {schema}.runs r where r.key = d.run)),
    woken as (
        update {schema}.runs r
           set inbox_head = r.inbox_head + c.cnt, ready_at = greatest(r.not_before, least(r.ready_at, p_now))
          from (select run, count(*) as cnt from due group by run) c
         where r.key = c.run and r.key = any(p_run)
        returning r.key, r.inbox_head - c.cnt as base),
    reached as (
        update {schema}.publications p set reached = p.reached + c.cnt
          from (select n, count(*)::integer as cnt from due group by n) c
         where p.n = c.n and p.n = any(p_n)),
    remembered as (
        insert into {schema}.inbox_keys (run_key, idem, n)
        select d.run, '~pub:' || d.n, w.base + d.nth from due d join woken w on w.key = d.run)
    insert into {schema}.inbox (run_key, n, name, data)
    select d.run, w.base + d.nth,
           '~published:' || p.n || ':' || char_length(p.key) || ':' || p.key || p.name, p.data
      from due d join woken w on w.key = d.run
      join {schema}.publications p on p.n = d.n and p.n = any(p_n);
end $fn$;

-- Delete some publications whose time is over. Never waits.
create function {schema}.forget(p_now timestamptz, p_limit integer) returns void
    language sql
    set jit = off set enable_seqscan = off
as $fn$
    delete from {schema}.publications p where p.n = any(array(
        select o.n from {schema}.publications o where o.until < p_now
         order by o.until limit p_limit for update skip locked))
$fn$;

-- Keep events under their keys, and give them to whoever waits now. Answers of each how many runs have
-- had it. One whose idempotency key is kept already (per key and name) is that one.
create function {schema}.publish(
    p_now timestamptz, p_name text[], p_key text[], p_data bytea[], p_until timestamptz[], p_idem text[])
    returns table (reached integer)
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
#variable_conflict use_column
declare
    v_now  timestamptz := coalesce(p_now, clock_timestamp());
    v_n    bigint[];  -- of each asked the number it has
    v_new  bigint[];
    v_runs bigint[];
    v_to_n bigint[];
    v_to   bigint[];
begin
    perform {schema}.enter(p_key, p_name);
    with asked as materialized (
        select a.*, (select o.n from {schema}.publications o
                      where o.key = a.key and o.name = a.name and o.idem = a.idem and o.until >= v_now
                      order by o.n limit 1) as old
          from unnest(p_key, p_name, p_data, p_until, p_idem) with ordinality
               as a(key, name, data, until, idem, ord)),
    firsts as materialized (
        select a.*, first_value(a.ord) over (partition by a.key, a.name, coalesce(a.idem, ''),
                                             case when a.idem is null then a.ord end order by a.ord) as lead
          from asked a),
    kept as (
        insert into {schema}.publications (key, name, data, until, idem)
        select f.key, f.name, f.data, f.until, f.idem from firsts f
         where f.old is null and f.lead = f.ord order by f.ord
        returning n),
    numbered as materialized (
        select k.n, row_number() over (order by k.n) as place from kept k),
    leads as materialized (
        select f.ord, row_number() over (order by f.ord) as place from firsts f
         where f.old is null and f.lead = f.ord)
    select array_agg(coalesce(f.old, m.n) order by f.ord), array_agg(m.n) filter (where m.n is not null)
      into v_n, v_new
      from firsts f left join leads l on l.ord = f.lead left join numbered m on m.place = l.place;
    select array_agg(distinct w.run_key) into v_runs
      from {schema}.publications p join {schema}.waits w on w.key = p.key and p.name = any(w.names)
     where p.n = any(v_new) and w.key = any(p_key);
    if v_runs is not null then
        perform 1 from {schema}.runs r where r.key = any(v_runs) order by r.key for no key update;
        -- Who waits is certain now: those who have ended their wait meanwhile get nothing.
        -- A wait that has not had what was kept before it gets that first: nothing overtakes.
        select array_agg(x.n), array_agg(x.run_key) into v_to_n, v_to from (
            select distinct p.n, w.run_key
              from {schema}.waits w join {schema}.publications p on p.key = w.key and p.name = any(w.names)
             where w.key = any(p_key) and w.run_key = any(v_runs) and p.key = any(p_key)
               and (p.n = any(v_new)
                    or (not w.subscribed and p.until >= v_now
                        and (p.key, p.name) in (select * from unnest(p_key, p_name))))) x;
        perform {schema}.hand_out(v_now, v_to_n, v_to);
        update {schema}.waits w set subscribed = true
         where w.run_key = any(v_runs) and w.key = any(p_key) and not w.subscribed
           and cardinality(w.names) = 1 and (w.key, w.names[1]) in (select * from unnest(p_key, p_name));
    end if;
    return query
    select p.reached from unnest(v_n) with ordinality as a(n, ord)
      join {schema}.publications p on p.n = a.n and p.n = any(v_n) order by a.ord;
    perform {schema}.leave(p_key, p_name);
    perform {schema}.forget(v_now, 20);
end $fn$;

-- Give runs what is kept for their waits, one row per run, key and name.
create function {schema}.subscribe(p_now timestamptz, p_run bigint[], p_key text[], p_name text[])
    returns void
    language plpgsql
    set jit = off set lock_timeout = '2s' set enable_nestloop = off set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $fn$
declare
    v_now  timestamptz := coalesce(p_now, clock_timestamp());
    v_n    bigint[];
    v_to   bigint[];
begin
    perform {schema}.enter(p_key, p_name);
    select array_agg(p.n), array_agg(a.run) into v_n, v_to
      from {schema}.publications p
      join unnest(p_run, p_key, p_name) as a(run, key, name) on a.key = p.key and a.name = p.name
     where p.key = any(p_key) and p.until >= v_now;
    if v_n is not null then
        perform 1 from {schema}.runs r where r.key = any(v_to) order by r.key for no key update;
        perform {schema}.hand_out(v_now, v_n, v_to);
    end if;
    update {schema}.waits w set subscribed = true
     where w.run_key = any(p_run) and w.key = any(p_key) and not w.subscribed
       and not exists (select 1 from unnest(w.names) as wanted(name)
                        where (w.run_key, w.key, wanted.name) not in (select * from unnest(p_run, p_key, p_name)));
    perform {schema}.leave(p_key, p_name);
end $fn$;
