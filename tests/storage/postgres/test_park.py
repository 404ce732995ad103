"""A run that parks while messages are under way never sleeps through one of them."""

from __future__ import annotations

import random
import threading
import time

from durable.model.rows import Code
from tests.storage.postgres.players import Player, park

ROUNDS = 600


class Sender(threading.Thread):
    """Sends for as long as it is let, in transactions that stay open for a moment."""

    def __init__(self, player: Player, seed: int) -> None:
        super().__init__(daemon=True)
        self.player = player
        self.random = random.Random(seed)
        self.sent = 0
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            with self.player.transaction():
                assert self.player.deliver("run-0") is not None
                time.sleep(self.random.random() * 0.0006)
            self.sent += 1
            time.sleep(self.random.random() * 0.003)


def test_no_wake_up_is_lost(player, worker, keys):
    owner, key = player(), keys[0]
    senders = [Sender(player(), seed) for seed in range(3)]
    for sender in senders:
        sender.start()
    seq, epoch, consumed, met = 1, 1, 0, 0
    for _ in range(ROUNDS):
        rows = owner(
            "select n from {s}.inbox where run_key = %s and n > %s order by n", [key, consumed]
        )
        assert [n for (n,) in rows] == list(range(consumed + 1, consumed + 1 + len(rows)))
        consumed += len(rows)
        # With `wait` a message that is under way is waited for: the worst moment, every time.
        commit = park(key, seq, epoch, consumed=consumed)
        assert owner.commit(worker, commit, wait=True) == [Code.APPLIED]
        seq += 1
        head, seen, due = owner.run(key, "inbox_head", "consumed", "ready_at is not null")
        assert due or head == seen, "parked with an unread message and nothing to wake it"
        met += head > seen
        while owner.claim(worker) != [key]:
            pass
        epoch += 1
    for sender in senders:
        sender.stop = True
        sender.join()
    assert met > ROUNDS / 20, "the race was not played"
    assert owner.run(key, "inbox_head") == sum(sender.sent for sender in senders)
