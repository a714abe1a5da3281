"""What served when: promotions, rollbacks and canaries, who decided and why. Pure."""

from collections.abc import Mapping, Sequence

from storage.records import Canary, ModelVersion, Promotion


def history(
    promotions: Sequence[Promotion],
    canaries: Sequence[Canary],
    names: Mapping[str, str],
    *,
    limit: int = 10,
) -> list[str]:
    """What served when, newest first: promotions, rollbacks and canaries, who decided and why. `names` by version id."""
    told = [(each.promoted_at, _promotion_line(each, names)) for each in promotions]
    for canary in canaries:
        name, digest = _name(canary.version_id, names), str(canary.specification.get("sha256", ""))[:8]
        begun = f"{name} as a canary of {canary.share:.0%} by {canary.started_by} (specification {digest})"
        told.append((canary.started_at, begun))
        if canary.ended_at is not None:
            told.append(
                (canary.ended_at, f"canary {name} {canary.state.value} by {canary.ended_by}: {canary.reason}")
            )
    newest = sorted(told, key=lambda each: each[0], reverse=True)[:limit]
    return [f"{at:%Y-%m-%d %H:%M} UTC  {line}" for at, line in newest]


def _promotion_line(promotion: Promotion, names: Mapping[str, str]) -> str:
    verb = "rolled back to" if promotion.decision.startswith("rollback:") else "promoted"
    why = f": {promotion.reason}" if promotion.reason else ""
    return f"{verb} {_name(promotion.version_id, names)} by {promotion.by}{why}"


def names_of(versions: Sequence[ModelVersion]) -> dict[str, str]:
    """Names by version id."""
    return {each.id: each.name for each in versions}


def _name(version_id: str | None, names: Mapping[str, str]) -> str:
    return names.get(version_id, "a model that is gone") if version_id else "base"
