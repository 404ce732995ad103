"""A payment that is confirmed by a webhook: the web server knows no run, only what the provider calls it.

The workflow waits under a key of the outside world, the payment's id; the webhook publishes under that key.
No table maps one to the other. Whoever comes first does not matter: what is published is kept for a week.
The provider's own id of the delivery is the idempotency key, so its retries do nothing.

    python -m examples.payment_webhook

prints

    201 the order waits for its money
    401 a webhook with a wrong signature
    200 the provider tells that it is paid
    200 and tells it again
    order-7: paid 4200 cents, shipped
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from durable import Client, Context, Worker, days, step, workflow

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
SECRET = b"shared with the provider"


class Paid(BaseModel):
    payment: str
    cents: int


@step(retry=5)
async def request_payment(order: str) -> str:
    return f"pay_{order}"


@step
async def ship(order: str) -> str:
    return "shipped"


@workflow
async def checkout(ctx: Context, order: str) -> str:
    payment = await ctx.step(request_payment, order)
    paid = await ctx.wait_for_event(Paid, key=payment, timeout=days(2), default=None)
    if paid is None:
        return "never paid"
    return f"paid {paid.cents} cents, {await ctx.step(ship, order)}"


class Shop:
    """An ASGI application: mount it in Starlette, FastAPI, Django, or serve it with any ASGI server."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        status = await (self.order if scope["path"] == "/orders" else self.webhook)(headers, body)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def order(self, _headers: dict[bytes, bytes], body: bytes) -> int:
        order = json.loads(body)["order"]
        await self.client.start(checkout, order, id=f"order-{order}")  # a double click is one order
        return 201

    async def webhook(self, headers: dict[bytes, bytes], body: bytes) -> int:
        signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest().encode()
        if not hmac.compare_digest(signature, headers.get(b"x-signature", b"")):
            return 401
        try:
            paid = Paid.model_validate_json(body)
        except ValidationError:
            return 422
        delivery = headers[b"x-delivery"].decode()
        await self.client.publish(paid, key=paid.payment, idempotency_key=delivery)
        return 200  # it is durable now: the provider need not tell it again


async def post(app: Shop, path: str, body: bytes, **headers: str) -> int:
    """Call the application as a server would."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(f"x-{name}".encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "POST", "path": path, "headers": given}, receive, send)
    return int(sent[0]["status"])


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[checkout]):
        app = Shop(client)
        status = await post(app, "/orders", b'{"order": "7"}')
        print(status, "the order waits for its money")
        body = Paid(payment="pay_7", cents=4200).model_dump_json().encode()
        signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        status = await post(app, "/webhook", body, delivery="d-1", signature="forged")
        print(status, "a webhook with a wrong signature")
        for words in ("the provider tells that it is paid", "and tells it again"):
            status = await post(app, "/webhook", body, delivery="d-1", signature=signature)
            print(status, words)
        print(f"order-7: {await client.handle('order-7', checkout).result()}")


if __name__ == "__main__":
    asyncio.run(main())
