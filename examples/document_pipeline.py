"""Documents through a language model: calls are steps, answers are validated, doubts go to people.

A call of a model is slow, costs money, and may answer nonsense. As a step it is paid for once: its result is
kept, whatever happens to the process. The answer is validated by pydantic inside the step, so a `ValidationError`
is an ordinary failure and the call is tried again. What the model is not sure of goes to a person, who gets
the form of the very class that the workflow wants.

The model here is a local function, so that the example runs offline; put a real one in its place.

    python -m examples.document_pipeline

prints

    a.txt: invoice 2026-17 over 120.50, by the model (2 attempts)
    b.txt: a person is asked “Read b.txt (the model is 40% sure)”
    b.txt: invoice 2026-18 over 99.00, by a person (1 attempt)
    c.txt: no invoice
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field

from durable import Client, Context, Retry, Worker, current_step, days, step, workflow

TEXTS = {
    "a.txt": "Invoice 2026-17. To pay: 120.50",
    "b.txt": "Invo1ce 2O26-l8. To pay: 9?.00",
    "c.txt": "Dear Sir or Madam",
}


class Invoice(BaseModel):
    number: str = Field(pattern=r"^\d{4}-\d+$")
    total: Decimal = Field(gt=0)


class Reading(BaseModel):
    invoice: Invoice
    confidence: float = Field(ge=0, le=1)


class Result(BaseModel):
    invoice: Invoice | None
    read_by: str


async def model(task: str, text: str, attempt: int) -> str:
    """Stands for a call over the network; at its first try it likes to invent a format."""
    if task == "classify":
        return "invoice" if text.startswith("Invo") else "other"
    if "2026-17" in text and attempt == 1:
        return '{"invoice": {"number": "number 17"}, "confidence": "high"}'
    if "2026-17" in text:
        return '{"invoice": {"number": "2026-17", "total": "120.50"}, "confidence": 0.97}'
    return '{"invoice": {"number": "2026-18", "total": "9.00"}, "confidence": 0.4}'


@step(retry=3, timeout=60)
async def classify(text: str) -> Literal["invoice", "other"]:
    answer = await model("classify", text, current_step().attempt)
    return "invoice" if answer == "invoice" else "other"


@step(retry=Retry(max_attempts=4, initial=0.05), timeout=60)
async def extract(text: str) -> Reading:
    answer = await model("extract", text, current_step().attempt)
    return Reading.model_validate_json(answer)  # ValidationError: the next attempt


@workflow
async def read_document(ctx: Context, name: str) -> Result:
    text = TEXTS[name]
    if await ctx.step(classify, text) == "other":
        return Result(invoice=None, read_by="the model")
    reading = await ctx.step(extract, text)
    if reading.confidence >= 0.8:
        return Result(invoice=reading.invoice, read_by="the model")
    checked = await ctx.wait_for_form(
        "review",
        Invoice,
        prompt=f"Read {name} (the model is {reading.confidence:.0%} sure)",
        metadata={"text": text, "guess": reading.invoice.model_dump(mode="json")},
        to="back office",
        timeout=days(5),
    )
    return Result(invoice=checked, read_by="a person")


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[read_document]):
        handles = [await client.start(read_document, name, id=name) for name in TEXTS]
        for handle in handles:
            if handle.id == "b.txt":
                while not (asked := await client.pending_inputs(run_id=handle.id)):
                    await asyncio.sleep(0.02)
                print(f"{handle.id}: a person is asked “{asked[0].prompt}”")
                invoice = {"number": "2026-18", "total": "99.00"}
                await handle.provide_input("review", invoice, by="mia")
            result = await handle.result()
            if result.invoice is None:
                print(f"{handle.id}: no invoice")
                continue
            (extracted,) = [s for s in (await handle.get()).steps if s.name == "extract"]
            tries = f"{extracted.attempts} attempt{'s' if extracted.attempts > 1 else ''}"
            invoice_text = f"invoice {result.invoice.number} over {result.invoice.total}"
            print(f"{handle.id}: {invoice_text}, by {result.read_by} ({tries})")


if __name__ == "__main__":
    asyncio.run(main())
