"""Every SQL text that this store sends, by name.

Filled in once per store: `{schema}`, quoted; `{event}`, the columns of an event; `{n}`, so many
placeholders for parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from durable.storage.postgres.settings import Settings

_EVENT: Final = "h.seq, h.type, h.at, h.cmd, h.name, h.data"
_RUN: Final = """
    select r.key, r.id, l.workflow, l.version, l.queue, {schema}.shown_status(r.status, r.hold),
           r.priority, r.tags::text, r.created_at, r.started_at, r.finished_at, r.seq, r.recoveries,
           r.waiting_for, p.id, case when r.owner is null then r.ready_at end, r.retried_from,
           a.seq, a.type, a.at, a.cmd, a.name, a.data, z.seq, z.type, z.at, z.cmd, z.name, z.data
      from {schema}.runs r
      join {schema}.lanes l on l.id = r.lane
      left join {schema}.runs p on p.key = r.parent_key
      left join {schema}.history a on a.run_key = r.key and a.seq = coalesce(r.first_seq, 1)
      left join {schema}.history z on z.run_key = r.key and z.seq = r.seq"""


@dataclass(frozen=True, slots=True)
class Statements:
    """The texts. Functions are called by name; what they do stands in `schema/postgres`."""

    now: str = "select coalesce(%b::timestamptz, clock_timestamp())"
    check: str = "select pg_is_in_recovery(), to_regclass(%b) is not null"
    version: str = "select number from {schema}.schema_version"

    register: str = "select * from {schema}.register({9})"
    renew: str = """
        update {schema}.workers w
           set expires_at = n.now + %b::float8 * interval '1 second', ttl = %b, beats = w.beats + 1
          from (select coalesce(%b::timestamptz, clock_timestamp()) as now) n
         where w.id = %b returning w.expires_at, n.now"""
    unregister: str = "select {schema}.unregister({2})"
    reap: str = "select * from {schema}.reap({9})"
    stuck: str = """
        select id from {schema}.workers
         where expires_at + 2 * ttl * interval '1 second' < coalesce(%b::timestamptz, clock_timestamp())"""
    evict: str = "delete from {schema}.workers where id = %b"
    unstick: str = """
        select pg_terminate_backend(a.pid) from pg_stat_activity a
         where a.pid = any(pg_blocking_pids(%b)) and a.state like 'idle in transaction%%'"""
    worker_names: str = "select id, name from {schema}.worker_names order by id desc limit 1000"
    leased: str = """
        select id, name, host, pid, boot, code, queues, workflows from {schema}.workers order by id"""
    lanes: str = """
        select l.id, l.queue, l.workflow, l.version from {schema}.lanes l
          join unnest(%b::text[], %b::text[], %b::int4[]) x(queue, workflow, version)
            on l.queue = x.queue and l.workflow = x.workflow and l.version = x.version"""
    new_lanes: str = """
        insert into {schema}.lanes (queue, workflow, version)
        select distinct x.* from unnest(%b::text[], %b::text[], %b::int4[]) x(queue, workflow, version)
         where not exists (select 1 from {schema}.lanes l where l.queue = x.queue
                              and l.workflow = x.workflow and l.version = x.version)
         order by 1, 2, 3
        on conflict do nothing"""

    start: str = "select * from {schema}.start({15})"
    restart: str = "select * from {schema}.restart({20})"
    existing: str = """
        select r.id, r.key, {schema}.shown_status(r.status, r.hold), l.queue, l.workflow, l.version,
               {event}
          from {schema}.runs r join {schema}.lanes l on l.id = r.lane
          left join {schema}.history h on h.run_key = r.key and h.seq = 1
         where r.id = any(%b)"""
    claim: str = "select * from {schema}.claim({4})"
    owned: str = """
        select key, epoch, seq, consumed, inbox_head from {schema}.runs
         where owner = %b and ready_at <= coalesce(%b::timestamptz, statement_timestamp())
         order by ready_at"""
    acknowledge: str = """
        with held as materialized (
            select r.key, x.epoch from {schema}.runs r
              join unnest(%b::int8[], %b::int8[]) x(key, epoch) on x.key = r.key
             where r.key = any(%b::int8[]) order by r.key for no key update of r skip locked)
        update {schema}.runs r set ready_at = null
          from held where r.key = held.key and r.owner = %b and r.epoch = held.epoch
           and r.inbox_head <= r.consumed"""
    adopt: str = """
        select key, id, lane, epoch, seq, consumed, inbox_head, status,
               coalesce(%b::timestamptz, clock_timestamp()), lost_owner,
               case when seq > coalesce(recovered_seq, 0) then 0 else recoveries end,
               coalesce(first_seq, 1)
          from {schema}.runs where key = any(%b) and owner = %b order by key"""
    load: str = """
        select u.key, h.seq, h.type, h.at, h.cmd, h.name, h.data
          from unnest(%b::int8[], %b::int8[]) u(key, after) cross join lateral (
               select h.seq, h.type, h.at, h.cmd, h.name, h.data from {schema}.history h
                where h.run_key = u.key and h.seq > u.after order by h.seq) h"""
    inbox: str = """
        select i.run_key, i.n, i.name, i.data
          from unnest(%b::int8[], %b::int8[]) u(key, consumed) cross join lateral (
               select i.run_key, i.n, i.name, i.data from {schema}.inbox i
                where i.run_key = u.key and i.n > u.consumed order by i.n) i
         order by 1, 2"""
    append: str = "select * from {schema}.append({14})"
    append_or_end: str = "select * from {schema}.append_or_end({15})"
    commit: str = "select * from {schema}.commit({38})"
    commit_more: str = "select * from {schema}.commit_more({44})"
    probe: str = """
        select k.key, r.seq, r.inbox_head, r.owner = w.id and r.epoch = k.epoch
          from (select id from {schema}.workers where id = %b) w
         cross join unnest(%b::int8[], %b::int8[]) k(key, epoch)
          left join {schema}.runs r on r.key = k.key and r.key = any(%b::int8[])"""

    children: str = """
        select distinct on (r.parent_cmd) r.parent_cmd, r.id from {schema}.runs r
         where r.parent_key = %b and r.parent_cmd = any(%b) order by r.parent_cmd, r.key desc"""

    deliver: str = "select * from {schema}.deliver({7})"
    answer: str = "select * from {schema}.answer({8})"
    publish: str = "select * from {schema}.publish({6})"
    subscribe: str = "select {schema}.subscribe({4})"
    pause: str = "select {schema}.pause({6})"
    resume: str = "select {schema}.resume({6})"
    terminate: str = "select {schema}.terminate({7})"
    unblock: str = "select {schema}.unblock({8})"

    runs: str = _RUN
    count: str = """
        select {schema}.shown_status(r.status, r.hold), count(*)
          from {schema}.runs r
          join {schema}.lanes l on l.id = r.lane"""
    key_of: str = "select key from {schema}.runs where id = %b"
    history: str = """
        select {event} from {schema}.history h where h.run_key = %b and h.seq > %b
         order by h.seq limit %b"""
    waits: str = """
        select w.place, r.id, l.workflow, w.cmd, w.kind, w.names, w.key, w.due, w.recipients, {event}
          from unnest(%b::int2[]) k(kind) cross join lateral (
               select w.* from {schema}.waits w
                 join {schema}.runs r on r.key = w.run_key
                 join {schema}.lanes l on l.id = r.lane
                where w.kind = k.kind and w.answered_at is null and {where}
                order by w.place limit %b) w
          join {schema}.runs r on r.key = w.run_key
          join {schema}.lanes l on l.id = r.lane
          join {schema}.history h on h.run_key = w.run_key and h.seq = w.seq
         order by w.place limit %b"""
    states: str = """
        with recursive names(id, key, name) as (
            select r.id, r.key, (select h.name from {schema}.history h
                                  where h.run_key = r.key and h.type = 60 order by h.name limit 1)
              from {schema}.runs r where r.id = any(%b)
            union all
            select n.id, n.key, (select h.name from {schema}.history h
                                  where h.run_key = n.key and h.type = 60 and h.name > n.name
                                  order by h.name limit 1)
              from names n where n.name is not null)
        select n.id, {event} from names n cross join lateral (
               select * from {schema}.history h
                where h.run_key = n.key and h.type = 60 and h.name = n.name
                order by h.seq desc limit 1) h"""
    newest: str = """
        select {event} from {schema}.runs r join {schema}.history h on h.run_key = r.key
         where r.id = %b and h.type = {type} and h.name = %b
         order by h.seq desc limit 1"""
    replies: str = """
        select r.id, {event}
          from unnest(%b::text[], %b::int4[]) a(id, cmd)
          join {schema}.runs r on r.id = a.id
          join {schema}.history h on h.run_key = r.key and h.type = 43 and h.cmd = a.cmd"""
    finished: str = """
        select r.id, r.status, {event}
          from {schema}.runs r join {schema}.history h on h.run_key = r.key and h.seq = r.seq
         where r.id = any(%b) and r.finished_at is not null"""
    shapes: str = """
        with chosen as (
            select r.key, r.id, r.lane, coalesce(r.first_seq, 1) as first_seq, true as is_open
              from {schema}.runs r where r.finished_at is null
            union all
            (select r.key, r.id, r.lane, coalesce(r.first_seq, 1), false
               from {schema}.runs r where r.finished_at is not null order by r.key desc limit %b)),
        shaped as (
            select c.id, c.lane, c.is_open,
                   md5(string_agg(concat_ws(' ', h.type, h.cmd, h.name), chr(10) order by h.seq)) as shape
              from chosen c
              join {schema}.history h on h.run_key = c.key and h.seq >= c.first_seq
             group by c.key, c.id, c.lane, c.is_open)
        select l.workflow, l.version, s.is_open, array_agg(s.id order by s.id)
          from shaped s join {schema}.lanes l on l.id = s.lane
         group by l.workflow, l.version, s.is_open, s.shape
         order by l.workflow, l.version, s.is_open desc, count(*) desc, min(s.id)"""
    next_due: str = """
        select min(ready_at) from {schema}.runs
         where ready_at > coalesce(%b::timestamptz, clock_timestamp()) and hold = 0"""
    notify: str = "select pg_notify(%b, '')"


def statements(settings: Settings) -> Statements:
    """All texts for one schema."""
    return Statements(**{f.name: _fill(str(f.default), settings) for f in fields(Statements)})


def _fill(text: str, settings: Settings) -> str:
    text = re.sub(r"\{(\d+)\}", lambda count: ", ".join(["%b"] * int(count[1])), text)
    return text.replace("{event}", _EVENT).replace("{schema}", settings.in_query)
