"""One sequence's side of a simulated round, from a recording: what is speculated, accepted, prepared.

Along the text that the target wrote, the draft's candidates are the recorded ones. Off it, after a token that the
target did not choose, those recorded at the same distance stand in: what matters there is but how sure the draft is.
"""

from __future__ import annotations

from saguaro.runtime.speculation import Choice, Lesson, NgramIndex, Outcome, Speculation
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.forest import Forest
from saguaro.runtime.speculation.tree import EMPTY
from saguaro.tuner.recording import Recording
from saguaro.tuner.settings import Settings


class Played:
    """Where a sequence is: `at` tokens of its completion are known, and the last of them is the bonus token."""

    def __init__(self, recording: Recording):
        self.recording, self.at = recording, 0
        self.speculation, self.after_hit = EMPTY, False
        self.pending = 0  # nodes of the speculation that the draft has not computed
        self.ngrams = NgramIndex(recording.prompt)

    @property
    def done(self) -> bool:
        return self.at >= len(self.recording.truth)

    def outcome(self) -> Outcome:
        """What the target makes of the speculation."""
        truth, node, speculation = self.recording.truth, 0, self.speculation
        nodes = zip(speculation.parents, speculation.tokens, strict=True)
        children = {parent_and_token: number for number, parent_and_token in enumerate(nodes, 1)}
        for token in truth[self.at :]:
            child = children.get((node, token))
            if child is None:
                return Outcome(node, token)
            node = child
        return Outcome(node, -1)  # the end of the text

    def draft(self, policy: AdaptivePolicy, settings: Settings) -> Speculation:
        """Just in time: a chain, or a tree as `TreeDrafter.draft` grows it."""
        recording, depth = self.recording, settings.lookahead
        self.pending = 1  # the last token of a chain
        if not settings.tree_nodes:
            return Speculation.chain([recording.best(self.at + d) for d in range(depth)])
        forest = Forest([(0, 1.0)], depth)
        forest.note(*policy.probabilities([recording.ranked(self.at)], False))
        for _ in range(depth - 1):
            grown = forest.grow(max(1, settings.tree_nodes // depth), 0.0)
            if grown:
                ranked = [recording.ranked(self.at + forest.nodes[node].depth) for node in grown]
                forest.note(*policy.probabilities(ranked, False))
        speculation, nodes = forest.speculation(0, settings.tree_nodes)
        self.pending = nodes.count(-1)
        return speculation

    def learn_tree(self, policy: AdaptivePolicy) -> None:
        """As `TreeDrafter` does, also where nothing is prepared."""
        ranked = [self.recording.ranked(self.at + depth) for depth in self.speculation.depths()]
        policy.learn([Lesson(ranked, self.speculation, self.outcome(), self.after_hit)])


class ChainPreparation:
    """What `Drafter.prepare` does; a layer is a depth."""

    def __init__(self, played: Played, policy: AdaptivePolicy, settings: Settings, taper: bool):
        self._recording, self._at, self._lookahead = played.recording, played.at, settings.lookahead
        count = len(played.speculation)
        self._ranked = [played.recording.ranked(played.at + k) for k in range(count + 1)]
        self._policy, self._speculation, self._after_hit = policy, played.speculation, played.after_hit
        self._choice: Choice = policy.choose(self._ranked, self._speculation.tokens, self._after_hit)
        widths = [width for width in self._choice.widths if width]
        self._widths = widths if taper or not widths else [widths[0]] * settings.lookahead
        self._layers, self._in_time = 0, 0

    def width(self) -> int:
        """Rows of the next layer; 0: there is none."""
        return self._widths[self._layers] if self._layers < len(self._widths) else 0

    def compute(self, in_time: bool) -> None:
        """The next layer; `in_time`: before the outcome, or while the target waits."""
        self._layers += 1
        self._in_time += in_time

    def get(self, outcome: Outcome) -> tuple[Speculation, int] | None:
        """What is prepared for the true outcome, and how many of its nodes are still to be computed."""
        if outcome not in self._choice.outcomes:
            return None
        branch = self._choice.outcomes.index(outcome)
        computed, drafted = (
            sum(width > branch for width in self._widths[:layers]) for layers in (self._layers, self._in_time)
        )
        first = self._at + outcome.node + 1
        tokens = [self._recording.best(first + d) for d in range(min(self._lookahead, drafted))]
        return (Speculation.chain(tokens), max(0, len(tokens) + 1 - computed)) if tokens else None

    def learn(self, outcome: Outcome) -> None:
        self._policy.learn([Lesson(self._ranked, self._speculation, outcome, self._after_hit)])


class TreePreparation:
    """What `TreeDrafter.prepare` does."""

    def __init__(self, played: Played, policy: AdaptivePolicy, settings: Settings, taper: bool):
        self._recording, self._policy, self._nodes = played.recording, policy, settings.tree_nodes
        self._speculation, self._after_hit = played.speculation, played.after_hit
        depths = played.speculation.depths()
        self._ranked = [played.recording.ranked(played.at + depth) for depth in depths]
        chosen = policy.choose_in_tree(self._ranked, self._speculation, self._after_hit)
        self._outcomes = [outcome for outcome, _ in chosen]
        self._forest = Forest([(outcome.bonus, chance) for outcome, chance in chosen], settings.lookahead)
        # of each node, which token of the completion follows it if it is right
        self._next = [played.at + depths[outcome.node] + 1 for outcome in self._outcomes]
        self._worth = policy.worth if taper else 0.0
        self._grown = list(range(len(chosen)))

    def width(self) -> int:
        return len(self._grown)

    def compute(self, in_time: bool) -> None:
        if not self._grown or not in_time:  # only another sequence of the batch has some; none is looked at again
            return
        ranked = [self._recording.ranked(self._next[node]) for node in self._grown]
        self._forest.note(*self._policy.probabilities(ranked, True))
        self._grown = self._forest.grow(self._policy.budget, self._worth)
        self._next += [self._next[self._forest.nodes[node].parent] + 1 for node in self._grown]

    def get(self, outcome: Outcome) -> tuple[Speculation, int] | None:
        if outcome not in self._outcomes:
            return None
        speculation, nodes = self._forest.speculation(self._outcomes.index(outcome), self._nodes)
        return (speculation, nodes.count(-1)) if speculation else None

    def learn(self, outcome: Outcome) -> None:
        self._policy.learn([Lesson(self._ranked, self._speculation, outcome, self._after_hit)])


def prepare(
    played: Played, policy: AdaptivePolicy, settings: Settings, taper: bool
) -> ChainPreparation | TreePreparation:
    """`taper`: as the drafters'."""
    kind = TreePreparation if settings.tree_nodes else ChainPreparation
    return kind(played, policy, settings, taper)
