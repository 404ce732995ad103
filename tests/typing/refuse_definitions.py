"""Every line marked `type: ignore` must be refused, by both checkers; an ignore without need is an error."""

from __future__ import annotations

from pydantic import BaseModel

from durable import AsyncStep, Client, Context, Cron, SyncStep, job, step, workflow


class Order(BaseModel):
    id: str


async def undo_number(x: int) -> None: ...


@step(compensate=undo_number)  # type: ignore[arg-type]
async def wrong_undo(order: Order) -> str:
    return order.id


@step(compensate=undo_number)  # type: ignore[arg-type]
def wrong_undo_in_thread(order: Order) -> str:
    return order.id


@step(timout=3)  # type: ignore[call-overload, untyped-decorator]
async def misspelt(order: Order) -> str:
    return order.id


@step(retry="3")  # type: ignore[call-overload, untyped-decorator]
async def wrong_retry(order: Order) -> str:
    return order.id


@step(executor="async")  # type: ignore[call-overload, untyped-decorator]
def wrong_executor(order: Order) -> str:
    return order.id


@step(transaction=True)  # type: ignore[arg-type]
def transaction_in_thread(conn: Client) -> int:
    return 1


@step(transaction=True, queue="q")  # type: ignore[call-overload, untyped-decorator]
async def transaction_elsewhere(conn: Client) -> int:
    return 1


@workflow  # type: ignore[arg-type]
def not_async(ctx: Context, order: Order) -> str:
    return order.id


@workflow  # type: ignore[arg-type]
async def two_inputs(ctx: Context, a: int, b: int) -> str:
    return str(a + b)


@workflow  # type: ignore[arg-type]
async def no_context() -> str:
    return ""


@workflow  # type: ignore[arg-type, type-var]
async def context_forgotten(order: Order) -> str:
    return order.id


@workflow(version="2")  # type: ignore[call-overload, untyped-decorator]
async def wrong_version(ctx: Context) -> None: ...


@workflow(schedule="0 9 * * *")  # type: ignore[arg-type]
async def wrong_schedule(ctx: Context) -> None: ...


@job  # type: ignore[arg-type]
def two_values(a: int, b: int) -> str:
    return str(a + b)


@step
async def charge(order: Order, times: int = 1) -> str:
    return order.id * times


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    return order.id


class Payments:
    @step
    async def pay(self, order: Order) -> str:
        return order.id


a: SyncStep[[Order], str] = step(undo_number)  # type: ignore[assignment]
b: AsyncStep[[Order], int] = Payments().pay  # type: ignore[assignment]
c = charge.options(compensate=undo_number)  # type: ignore[arg-type]
d = charge.options(timout=3)  # type: ignore[call-arg]
e = charge.options(transaction=True)  # type: ignore[call-arg]
f = Cron("0 9 * * *", overlap="both")  # type: ignore[arg-type]


async def called_directly(ctx: Context) -> None:
    await charge("x")  # type: ignore[arg-type]
    await Payments().pay()  # type: ignore[call-arg]
    await fulfil(ctx)  # type: ignore[call-arg]
    await fulfil(ctx, "x")  # type: ignore[arg-type]
    await fulfil(Order(id="1"), Order(id="1"))  # type: ignore[arg-type]
    n: int = await charge(Order(id="1"))  # type: ignore[assignment]
    print(n)
