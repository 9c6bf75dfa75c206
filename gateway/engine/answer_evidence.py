"""What the answers of a release themselves say: NaN, scores, and labels for outcomes that become known later."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.core.outcome_matching import Label, OutcomeMatching
from gateway.core.pairing import FailurePairing
from gateway.core.score_bins import ScoreBins, Values
from gateway.engine.answer_looks import MOST_OUTPUTS, Looks, look_at
from gateway.engine.answer_notes import Answers, SeenAnswer, groups_of
from gateway.engine.raw_labels import RawLabels
from gateway.messages import Instant
from gateway.releases import ReleasePlan

_log = logging.getLogger("sluice.releases")


class AnswerEvidence:
    """Owns what is taken from answers. `paired`: both versions answer callers, so that they can be compared."""

    def __init__(
        self, plan: ReleasePlan, nans: FailurePairing, scores: dict[str, ScoreBins], outcomes: OutcomeMatching
    ) -> None:
        self.nans = nans
        self.scores = scores
        self.outcomes = outcomes
        self.paired = False
        self._plan = plan
        self._output = plan.outputs[0].output if plan.outputs else ""
        self._raw = RawLabels(self._output)
        self._seen: list[SeenAnswer] = []
        outcomes.label_of = self._raw.label

    @property
    def _nans_wanted(self) -> bool:
        return self.paired and self._plan.criteria.nan_rate is not None

    @property
    def _scores_wanted(self) -> bool:
        return self.paired and self._plan.criteria.score_shift is not None

    @property
    def _labels_wanted(self) -> bool:
        # Of what stable alone answered no outcome says anything; what was copied is remembered when it is compared.
        return self.paired and self._plan.criteria.outcome_loss is not None

    def take(self, answers: Answers, ended: Sequence[Instant], *, is_candidate: bool) -> None:
        """Takes answers and when each went out; those that have to be looked at wait for `look`."""
        looked_at, labels = self._nans_wanted or self._scores_wanted, self._labels_wanted
        if not looked_at and not labels:
            return
        keep, answered = self._raw.keep, self.outcomes.answered
        for (member, answer), at in zip(answers, ended, strict=True):
            raw = keep(answer, member.checked.rows) if labels else None
            if looked_at or raw is None:
                self._seen.append(SeenAnswer(member, answer, at, raw, is_candidate=is_candidate))
            else:
                answered(member.context.request_id, is_candidate=is_candidate, label=None, raw=raw)

    def look(self) -> None:
        """Looks at the answers that wait; one that cannot be looked at says nothing."""
        seen, self._seen = self._seen, []
        if not seen:
            return
        bad: list[bool | None] = [None] * len(seen)
        said: list[Label | None] = [None] * len(seen)
        for places in groups_of(seen):
            looks = self._look_at([seen[place] for place in places])
            if looks is None:
                continue
            for index, place in enumerate(places):
                said[place] = looks.labels[index]
                bad[place] = looks.nans[index] if looks.nans is not None else None
        for one, found, label in zip(seen, bad, said, strict=True):
            if found is not None:
                self.nans.request(one.is_candidate, found, one.at)
            if self._labels_wanted:
                self.outcomes.answered(one.request_id, is_candidate=one.is_candidate, label=label, raw=one.raw)

    def _look_at(self, group: list[SeenAnswer]) -> Looks | None:
        """Looks at the answers of one group, and counts their scores; None if they cannot be looked at."""
        try:
            looks = look_at(
                [one.answer for one in group],
                [one.rows for one in group],
                nans=self._nans_wanted,
                scores=self._scores_wanted,
                labels=any(one.raw is None for one in group) and self._labels_wanted,
                label_output=self._output,
            )
            for name, values in looks.scores.items():
                self._score(name, values, is_candidate=group[0].is_candidate)
        except Exception:
            _log.exception("looking at answers of %s", self._plan.model_name)
            return None
        return looks

    def _score(self, output: str, values: Values, *, is_candidate: bool) -> None:
        bins = self.scores.get(output)
        if bins is None:
            if len(self.scores) >= MOST_OUTPUTS:
                return
            bins = self.scores[output] = ScoreBins()
        bins.add(values, is_candidate=is_candidate)
