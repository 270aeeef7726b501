"""The papers, slowly and literally, in plain Python. Imports nothing of ours."""

import math


def gae(rewards, values, gamma, lam):
    """Schulman et al. 2016, eq. 16: a finite sum of discounted temporal differences."""
    n = len(rewards)
    following = [*values[1:], 0.0]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t)) for t in range(n)]


def rewards_to_go(rewards, gamma):
    return [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]


def kl_penalized_rewards(score, logprobs, ref_logprobs, kl_coef):
    rewards = [-kl_coef * (a - b) for a, b in zip(logprobs, ref_logprobs, strict=True)]
    if rewards:
        rewards[-1] += score
    return rewards


def mean(xs):
    return math.fsum(xs) / len(xs) if xs else 0.0


def whiten(xs):
    mu = mean(xs)
    variance = mean([(x - mu) ** 2 for x in xs])
    return [(x - mu) / math.sqrt(variance + 1e-8) for x in xs]


def clipped_policy_loss(logprobs, old_logprobs, advantages, low, high, dual_clip=None):
    """Schulman et al. 2017, eq. 7, token by token, case by case."""
    losses = []
    for new, old, advantage in zip(logprobs, old_logprobs, advantages, strict=True):
        ratio = math.exp(new - old)
        if advantage >= 0:
            objective = min(ratio, 1 + high) * advantage
        else:
            objective = max(ratio, 1 - low) * advantage
            if dual_clip is not None:
                objective = max(objective, dual_clip * advantage)
        losses.append(-objective)
    return mean(losses)


def truncated_importance_weights(logprobs, sampler_logprobs, cap):
    """Yao et al. 2025: the ratio of two probabilities, or the cap where it is larger."""
    pairs = zip(logprobs, sampler_logprobs, strict=True)
    return [min(math.exp(ours) / math.exp(theirs), cap) for ours, theirs in pairs]


def clipped_value_loss(values, old_values, returns, clip_range):
    losses = []
    for value, old, target in zip(values, old_values, returns, strict=True):
        moved = max(-clip_range, min(clip_range, value - old))
        losses.append(max((value - target) ** 2, (old + moved - target) ** 2) / 2)
    return mean(losses)


def agreeing_pairs(rows):
    """Share of pairs of votes on one thing that are equal, pair by pair; a row per thing."""
    pairs = [(x, y) for row in rows for i, x in enumerate(row) for y in row[i + 1 :]]
    return sum(x == y for x, y in pairs) / len(pairs) if pairs else None


def krippendorff_alpha(rows, distance):
    """Krippendorff 2019, ch. 12: disagreement within units over that of all pairable values."""
    rows = [row for row in rows if len(row) > 1]
    given = [value for row in rows for value in row]
    within = sum(
        distance(row[i], row[j], given) / (len(row) - 1)
        for row in rows
        for i in range(len(row))
        for j in range(len(row))
        if i != j
    )
    between = sum(
        distance(given[i], given[j], given)
        for i in range(len(given))
        for j in range(len(given))
        if i != j
    )
    return 1 - (len(given) - 1) * within / between


def nominal_distance(x, y, _):
    return float(x != y)


def ordinal_distance(x, y, given):
    low, high = min(x, y), max(x, y)
    ranks = sum(low <= value <= high for value in given)
    return (ranks - (given.count(low) + given.count(high)) / 2) ** 2 if x != y else 0.0


def dawid_skene(rows, labels, rounds):
    """Dawid and Skene 1979, eq. 2.3 to 2.5: probabilities of each label for each row.

    A row maps raters to what they said; products, no logarithms.
    """
    right = [{k: list(row.values()).count(k) / len(row) for k in labels} for row in rows]
    raters = {rater for row in rows for rater in row}
    for _ in range(rounds):
        share = {k: mean([t[k] for t in right]) for k in labels}
        error = {}
        for rater in raters:
            own = [(t, row[rater]) for t, row in zip(right, rows, strict=True) if rater in row]
            for k in labels:
                seen = math.fsum(t[k] for t, _ in own)
                for said in labels:
                    hits = math.fsum(t[k] for t, label in own if label == said)
                    error[rater, k, said] = hits / seen if seen else 0.0
        for number, row in enumerate(rows):
            joint = {
                k: share[k] * math.prod(error[rater, k, said] for rater, said in row.items())
                for k in labels
            }
            right[number] = {k: joint[k] / math.fsum(joint.values()) for k in labels}
    return right


def answers_of_tree(num_words, longest):
    """Answers of words 1 ... num_words, ended by 0 or cut off at ``longest`` tokens."""
    open_ones, answers = [()], []
    for _ in range(longest):
        answers += [(*prefix, 0) for prefix in open_ones]
        open_ones = [(*prefix, word) for prefix in open_ones for word in range(1, num_words + 1)]
    return answers + open_ones


def chance(answer, logits):
    """Of an answer where ``logits[prefix]`` are free for each prefix."""
    total = 1.0
    for t, token in enumerate(answer):
        here = [math.exp(x) for x in logits[answer[:t]]]
        total *= here[token] / sum(here)
    return total


def best_policy(reference, scores, kl_coef):
    """The maximum of E[score] - kl_coef * KL(pi || reference) over distributions of answers."""
    tilted = {y: reference[y] * math.exp(scores[y] / kl_coef) for y in reference}
    return {y: x / sum(tilted.values()) for y, x in tilted.items()}


def policy_of_token_by_token_kl(reference_logits, scores, kl_coef):
    """Where k2 charged to each token alone leads: pi(token) ~ reference(token) * exp(Q / kl_coef).

    Q is the expected score that follows, without the KL that follows.
    """

    def solve(prefix):
        if prefix in scores:
            return scores[prefix], {prefix: 1.0}
        tokens = range(len(reference_logits[prefix]))
        below = [solve((*prefix, token)) for token in tokens]
        tilted = [math.exp(reference_logits[prefix][k] + below[k][0] / kl_coef) for k in tokens]
        chances = [x / sum(tilted) for x in tilted]
        expected = sum(p * q for p, (q, _) in zip(chances, below, strict=True))
        leaves = {}
        for p, (_, chances_below) in zip(chances, below, strict=True):
            leaves |= {y: p * x for y, x in chances_below.items()}
        return expected, leaves

    return solve(())[1]


def total_variation(p, q):
    return 0.5 * sum(abs(p[y] - q[y]) for y in p)
