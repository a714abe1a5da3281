"""What was decided about a challenger, and what may be decided now: read from promotions and decisions. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.records import Canary, CanaryState, Decision, ModelVersion, Promotion, TrainingRun

APPROVE, KEEP = "approve", "keep"
BASE_NAME = "The base"
ROLLBACK = "rollback:"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was decided about a run's challenger, and what serves now. Names are those people use for versions.

    `before` is what Roll back would bring back, or has brought back. `changed`: something else was promoted since the
    comparison was made. `approved` are those who approved the promotion, `approvals` how many have to.
    """

    challenger: str
    serving: str
    before: str
    serves: bool = False
    changed: bool = False
    promotion: Promotion | None = None
    undone: Promotion | None = None
    kept: Decision | None = None
    approved: tuple[Decision, ...] = ()
    approvals: int = 1
    admins: tuple[str, ...] = ()
    canary: Canary | None = None
    """Its newest canary, going on or over."""

    @property
    def watched(self) -> bool:
        """Whether it answers a share of the threads now."""
        return self.canary is not None and self.canary.state is CanaryState.WATCHING


def standing_of(
    run: TrainingRun,
    version: ModelVersion,
    *,
    compared_with: str | None,
    promotions: Sequence[Promotion],
    decisions: Sequence[Decision],
    names: Mapping[str, str],
    approvals: int,
    admins: tuple[str, ...],
    canaries: Sequence[Canary] = (),
) -> Standing:
    """How a run's challenger stands. `promotions` oldest first; `names` by version id; `compared_with` is a version id."""
    newest = promotions[-1] if promotions else None
    serving = newest.version_id if newest else None
    promotion = promotion_of(promotions, version.id)
    undone = _rollback_of(promotions, promotion)
    before = undone.version_id if undone else newest.previous_id if newest else None
    kept = [each for each in decisions if each.action == KEEP and each.subject == run.id]
    return Standing(
        challenger=version.name,
        serving=name_of(serving, names),
        before=name_of(before, names),
        serves=serving == version.id,
        changed=serving != compared_with,
        promotion=promotion,
        undone=undone,
        kept=min(kept, key=lambda each: each.decided_at, default=None),
        approved=approvals_of(decisions, promotions, version.id, promotion),
        approvals=approvals,
        admins=admins,
        canary=next((each for each in reversed(canaries) if each.version_id == version.id), None),
    )


def name_of(version_id: str | None, names: Mapping[str, str]) -> str:
    """What people read as a version's name; None is the base."""
    return names.get(version_id, "A model that is gone") if version_id else BASE_NAME


def decision_of(run: TrainingRun) -> str:
    """The one decision a run's report can make; pressing Promote twice is the same decision."""
    return f"report:{run.id}"


def subject_of(version: ModelVersion | None) -> str:
    """What an approval is about: a version, however it is asked for."""
    return version.id if version else "base"


def promotion_of(promotions: Sequence[Promotion], version_id: str | None) -> Promotion | None:
    """The newest promotion of a version that somebody chose; rollbacks that brought it back are none."""
    chosen = [
        each
        for each in promotions
        if each.version_id == version_id and not each.decision.startswith(ROLLBACK)
    ]
    return chosen[-1] if chosen else None


def approvals_of(
    decisions: Sequence[Decision],
    promotions: Sequence[Promotion],
    subject: str,
    until: Promotion | None = None,
) -> tuple[Decision, ...]:
    """Who approved, the first approval of each person, oldest first: those that led to `until`, or those that count today.

    An approval is given for what serves at that moment: any promotion in between makes it void.
    """
    before = [each for each in promotions if until is None or each.sequence < until.sequence]
    since = before[-1].promoted_at if before else None
    first: dict[str, Decision] = {}
    for each in sorted(decisions, key=lambda each: each.decided_at):
        fits = each.action == APPROVE and each.subject == subject
        late = until is not None and each.decided_at > until.promoted_at
        if fits and not late and (since is None or each.decided_at > since):
            first.setdefault(each.actor, each)
    return tuple(first.values())


def _rollback_of(promotions: Sequence[Promotion], promotion: Promotion | None) -> Promotion | None:
    wanted = f"{ROLLBACK}{promotion.id}" if promotion else ""
    return next((each for each in promotions if each.decision == wanted), None)
