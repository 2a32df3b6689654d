"""The columns of a run's tables: fixed before the run, so that rows can be appended."""

from __future__ import annotations

# Column -> pandas dtype. Missing values are empty cells, so integers that may miss are Int64.
Schema = dict[str, str]

ROUNDS: Schema = {
    "round": "int64",
    "users_sampled": "int64",
    "users_completed": "int64",
    "users_failed": "int64",
    "sequences": "int64",
    "tokens": "int64",
    "train_loss_nats_per_token": "float64",
    "update_norm": "float64",  # l2 of the global model's step
    "mean_client_norm": "float64",  # mean l2 of the clients' updates
    "largest_client_norm": "float64",
    "download_bytes": "int64",  # over all clients of the round
    "upload_bytes": "int64",
    "seconds": "float64",
    "tokens_per_second": "float64",
}

CLIENTS: Schema = {
    "round": "int64",
    "user": "int64",
    "canary_user": "bool",
    "sequences": "int64",
    "tokens": "int64",
    "loss_nats_per_token": "float64",
    "update_norm": "float64",
}

# What the mechanism did in each round. Exact counts, so not covered by any guarantee.
PRIVACY: Schema = {
    "round": "int64",
    "clip_norm": "float64",
    "noise_deviation": "float64",  # of a coordinate of the mean update; dp-sgd: of a step's sum
    "users_clipped": "Int64",
    "users_not_finite": "Int64",  # whose update became zero
}

FAILURES: Schema = {"round": "int64", "user": "int64", "reason": "str"}

SCORES: Schema = {
    "users": "int64",
    "words": "int64",
    "top1_recall": "float64",
    "top3_recall": "float64",
    "perplexity": "float64",
    "keystroke_savings": "float64",  # with three suggestions
    "keystroke_savings_top1": "float64",
    "keystroke_savings_top5": "float64",
    "top1_recall_worst_tenth": "float64",
    "top3_recall_worst_tenth": "float64",
}

EVALUATIONS: Schema = {"round": "int64", "split": "str", **SCORES}

# The final comparison on unseen test users: the federated model and its baselines.
RESULTS: Schema = {
    "model": "str",
    **SCORES,
    "parameters": "Int64",
    "model_bytes": "Int64",
    "latency_p50_ms": "float64",
    "latency_p95_ms": "float64",
}

# Per-user counts behind RESULTS.
USERS: Schema = {
    "model": "str",
    "user": "int64",
    "words": "int64",
    "tokens": "int64",
    "nats": "float64",
    "hits_top1": "int64",
    "hits_top3": "int64",
    "keystrokes_base": "int64",
    "keystrokes": "int64",  # with three suggestions
    "keystrokes_top1": "Int64",
    "keystrokes_top5": "Int64",
}

EXPOSURE: Schema = {
    "round": "int64",
    "canary": "int64",
    "kind": "str",  # planted | held_out
    "users": "int64",
    "repeats": "int64",
    "holder_participations": "int64",  # rounds a holder took part in, summed over holders
    "nats": "float64",
    "exposure_bits": "float64",
    "ceiling_bits": "float64",
    "extracted": "bool",
}

# Of audit runs: how far each round's released mean update goes in each canary's direction, and
# whether the canary was drawn, which does not depend on its coin.
AUDIT: Schema = {
    "round": "int64",
    "canary": "int64",
    "drawn": "bool",
    "projection": "float64",
}

# What is left of the first corpus of a pretrained run: `fedsim.leakage.forgetting`.
FIRST_CORPUS: Schema = {
    "round": "int64",
    "text": "str",  # trained: the server trained on it; held_out: of its other users, the control
    "quantity": "str",  # extractable, nats_per_word; of canaries: exposure_bits, canaries_extracted
    "prefix_words": "Int64",  # given to greedy decoding
    "n": "int64",  # sentences or canaries
    "estimate": "float64",
    "low": "float64",  # 95 %
    "high": "float64",
}

# What the keyboard offers for a few beginnings of messages, chosen by the model:
# `fedsim.suggesting.openings`, one row an offer.
SUGGESTIONS: Schema = {
    "typed": "str",  # empty: nothing yet; without a space at its end the last word is being typed
    "place": "int64",  # from 1, the likeliest first
    "word": "str",
    "probability": "float64",  # of all next tokens
}

# What the leakage measures found: `fedsim.leakage.base.Finding`, one row a figure.
LEAKAGE: Schema = {
    "round": "int64",
    "measure": "str",
    "threat": "str",  # who the adversary is and what it holds
    "quantity": "str",
    "group": "str",
    "estimate": "float64",
    "n": "int64",
    "low": "float64",  # 95 %
    "high": "float64",
    "interval": "str",  # the method of low and high
    "control": "float64",  # the same quantity where nothing can have leaked
    "note": "str",
}

TABLES: dict[str, Schema] = {
    "rounds": ROUNDS,
    "clients": CLIENTS,
    "privacy": PRIVACY,
    "failures": FAILURES,
    "evaluations": EVALUATIONS,
    "results": RESULTS,
    "users": USERS,
    "exposure": EXPOSURE,
    "first_corpus": FIRST_CORPUS,
    "suggestions": SUGGESTIONS,
    "leakage": LEAKAGE,
    "audit": AUDIT,
}

# Columns that runs of before do not have; they read as missing.
LATER = {
    "largest_client_norm",
    "keystroke_savings_top1",
    "keystroke_savings_top5",
    "keystrokes_top1",
    "keystrokes_top5",
}

# What a repetition of the same run may change.
TIMING_COLUMNS = {"seconds", "tokens_per_second", "latency_p50_ms", "latency_p95_ms"}
