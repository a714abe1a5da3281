"""How spending is shown to people, in Slack and in the terminal: sums by model and channel, budgets as bars. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from bot.models.prices import Prices, unpriced
from bot.money_limits import Standing, usd
from storage.spending import SpendSum

BAR = 10


def bar(share: float) -> str:
    """A share as a plain text bar with its percentage: "████░░░░░░ 42 %"."""
    full = min(BAR, max(0, int(share * BAR)))
    return f"{'█' * full}{'░' * (BAR - full)} {100 * share:.0f} %"


def standing_line(place: Standing) -> str:
    """One budget: how much of it is spent."""
    names = {"day": "Today", "month": "This month"}
    name = names.get(place.limit.scope, f"<#{place.limit.channel}> this month")
    held = f", {usd(place.spent.held_usd)} of it held for calls under way" if place.spent.held_usd else ""
    return f"{name}: {usd(place.spent.usd)} of {usd(place.limit.most_usd)} {bar(place.share)}{held}"


def channel_line(spent: float, most: float | None) -> str:
    """What a channel spent this month; "" where there is nothing to say."""
    if most is not None:
        return f"{usd(spent)} of {usd(most)} this month" if most else "no API models ($0 a month)"
    return f"{usd(spent)} this month" if spent else ""


def spent_lines(
    today: Sequence[SpendSum], month: Sequence[SpendSum], places: Sequence[Standing], prices: Prices
) -> list[str]:
    """What `status` says of money: today and this month by model, the budgets, the table of prices, and what is unknown."""
    lines = [f"*Spent on API models:* today {_by_model(today)}; this month {_by_model(month)}"]
    if places:
        lines.append("*Budgets:* " + " · ".join(standing_line(place) for place in places))
    lines.append(f"*Prices:* of {prices.as_of}")
    unknown = sorted({row.model for row in month if not row.price_version})
    lines += [unpriced(model) for model in unknown]
    return lines


def totals(rows: Iterable[SpendSum], key: Callable[[SpendSum], str]) -> Mapping[str, float]:
    """US dollars by `key`, the dearest first."""
    sums: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        sums[key(row)] += row.cost_usd
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _by_model(rows: Sequence[SpendSum]) -> str:
    total = usd(sum(row.cost_usd for row in rows))
    by_model = totals(rows, lambda row: row.model)
    named = ", ".join(f"{model} {usd(amount)}" for model, amount in by_model.items())
    return f"{total} ({named})" if named else total


def listing(rows: Sequence[SpendSum], month: str, places: Sequence[Standing]) -> str:
    """What `/apprentice spending` says to admins."""
    if not rows:
        return "\n".join([f"Nothing was spent on API models in {month}.", *map(standing_line, places)])
    lines = [f"*Spent on API models in {month}:* {usd(sum(row.cost_usd for row in rows))}"]
    lines += map(standing_line, places)
    lines.append("*By model:*")
    for (model, purpose), group in _grouped(rows).items():
        tokens = (
            f"{sum(row.tokens_in for row in group):,} tokens in, {sum(row.tokens_out for row in group):,} out"
        )
        calls = sum(row.calls for row in group)
        lines.append(
            f"{model}, {purpose}: {usd(sum(row.cost_usd for row in group))}, {calls:,} calls, {tokens}"
        )
    by_channel = totals(rows, lambda row: row.channel)
    lines.append("*By channel:*")
    lines += [f"{f'<#{name}>' if name else 'none'}: {usd(amount)}" for name, amount in by_channel.items()]
    return "\n".join(lines)


def _grouped(rows: Sequence[SpendSum]) -> Mapping[tuple[str, str], list[SpendSum]]:
    groups: defaultdict[tuple[str, str], list[SpendSum]] = defaultdict(list)
    for row in rows:
        groups[row.model, row.purpose].append(row)
    return groups
