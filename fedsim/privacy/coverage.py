"""What a run's guarantee does not cover, what it rests on, and what it composes with.

Each group is label -> sentence, in the order in which a reader of the statement needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsim.privacy.claims import rounded_down, rounded_up

Said = dict[str, str]
People = Mapping[str, Any]

SENT = (
    "train/*, cohort/*, cost/*, privacy/users_*, exposure/*, extracted/*, leakage/*, validation/*, "
    "test/* and results/*"
)


def not_covered(
    config: Mapping[str, Any], unit: str, people: People, vocabulary: Mapping[str, Any]
) -> Said:
    """Whom and what the guarantee leaves out.

    `config` is the resolved one as plain values, `people` what `server.privacy` counts,
    `vocabulary` how it was chosen.
    """
    said: Said = {}
    if unit == "user":
        said["the server"] = "one that is curious sees every update before the noise"
    else:
        said["reported"] = (
            "the losses, norms and counts that a client sends beside its update, which are exact"
        )
    if unit == "sequence":
        said["the user"] = (
            "as a whole has practically no guarantee with many sequences, nor has a sentence that "
            "is there several times, on one phone or on several"
        )
    else:
        said["several ids"] = "a person who has several user ids counts as several"
    said |= _others(config, people)
    said["the words"] = _words(vocabulary)
    return said


def _others(config: Mapping[str, Any], people: People) -> Said:
    """People whose text a run reads and does not train on."""
    said: Said = {}
    if people["donors"]:
        said["donors"] = (
            f"{_people(people['donors'])}, from whose word pairs the synthetic text of "
            f"{people['canary_users']:,} canary users was drawn; nothing else uses them"
        )
    said["validation"] = (
        f"{_people(people['validation'])}, whose scores, without noise, choose settings"
    )
    said["test"] = f"{_people(people['test'])}, whose scores, without noise, are the results"
    if people["set_apart"]:
        said["set apart"] = (
            f"{_people(people['set_apart'])}, who never train; audits measure them without noise"
        )
    if people["first_corpus"]:
        said["first corpus"] = _first_corpus(people["first_corpus"], config["pretrain"])
    return said


def _first_corpus(first: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    whose = f"'{first['name']}', {_people(first['people'])}"
    if not first["trained"]:
        return f"{whose}: the server did not train on it"
    text = f"{whose}, on whom the server trained without noise; "
    found = first["overlap"]
    if not found["sentences"]:
        return text + "whether they are this run's people could not be looked for: no text is here"
    names = "nobody has a name" if not found["names"] else f"{found['names']:,} have a name"
    if found["names"] and options["other_people"]:
        names += " (of other people, as pretrain.other_people says)"
    people = (
        "nobody has text" if not found["overlapping"] else f"{found['overlapping']:,} have text"
    )
    text += (
        f"of this run's {_people(found['people'])} {names} that is there, and {people} that is: of "
        f"{found['sentences']:,} sentences of five words or more "
    )
    if not found["closest"]:
        return text + "none was found"
    return text + f"at most {found['closest']} of one person's {found['of_closest']:,} were found"


def _words(vocabulary: Mapping[str, Any]) -> str:
    rest = "the cleaning and the capping of their text, and who is in which split"
    if not vocabulary["private"]:
        text = "the vocabulary, made of exact counts of the same people's words"
        if vocabulary["word_users"] > 1:
            text += (
                f" that {vocabulary['word_users']} users or more have, a threshold and no privacy"
            )
        return f"{text}; {rest}"
    if vocabulary["composed"]:
        return rest
    return (
        f"the vocabulary, which is a release of its own ({vocabulary_in_words(vocabulary)}) by a "
        f"server that is trusted; {rest}"
    )


def vocabulary_in_words(vocabulary: Mapping[str, Any]) -> str:
    """How a private one was chosen."""
    text = (
        f"noisy counts of {_people(vocabulary['people'])}, of {vocabulary['words']:,} different "
        f"words each, above {vocabulary['threshold']:.4g}: noise multiplier "
        f"{rounded_down(vocabulary['noise_multiplier'], 6)}, and "
        f"{rounded_up(vocabulary['chance'], 3)} of delta for words of one person alone"
    )
    if vocabulary["noise"] == "seeded":
        text += "; seeded, a SIMULATION"
    return text


def rests_on(said: Mapping[str, Any]) -> Said:
    """What must stay secret for the guarantee to hold; `said` is the statement so far."""
    out: Said = {}
    noise = said.get("noise")
    if noise:
        out["the noise"] = noise_in_words(noise)
    guarantee = said["guarantee"]
    if guarantee["amplified"] and said["mechanism"] != "dp-sgd":
        out["who took part"] = (
            "sampling counts only for who cannot see it: clients.csv and failures.csv in a "
            "run's folder have the numbers of every round's users, and so has the message to each "
            "node"
        )
        if said.get("sampler") == "fixed":
            out["who took part"] += "; who knows that somebody was not drawn knows more of others"
        if noise and noise["kind"] == "seeded":
            out["who took part"] += "; they follow from config and text, as the noise does"
        out["who took part"] += ". For who sees them the row 'names known' above holds"
    elif guarantee["amplified"]:
        out["the batches"] = (
            "which sequences a client drew for a step; the exact number of words that it "
            "reports can tell of them, so that sampling counts for less against the server, and "
            "not at all in the row 'names known' above"
        )
    return out


def noise_in_words(noise: Mapping[str, Any]) -> str:
    """Generator, key and arithmetic of a run's noise."""
    made = f"drawn by {noise['generator']}; its key {_verb(noise['key'])}"
    if noise["kind"] == "seeded":
        made = f"a SIMULATION, {made}"
    text = f"{noise['kind']}: {made}"
    if noise.get("arithmetic"):
        text += f". {_sentence(noise['arithmetic'])}"
    if not noise.get("id"):
        return text
    whose = "the key"
    if noise.get("of_clients"):
        whose = "the server's key, which names the run to clients and made none of this noise"
    return f"{text}. Name of {whose}: {noise['id']}"


def _verb(key: str) -> str:
    return key if key.startswith("follows") else f"is {key}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def composes_with(config: Mapping[str, Any], people: People) -> Said:
    """What else is known of the same people, whose losses add to this one."""
    said = {
        "other runs": (
            "all that is published of the same people: every seed, cell and trial of a study, "
            "runs without noise (epsilon infinite), retraining. `privacy compose RUN RUN ...` "
            "gives the whole"
        )
    }
    if trained := baselines(config):
        said["baselines"] = (
            f"{' and '.join(trained)}: trained on the same {_people(people['training'])} without "
            "noise; their scores stand in results.csv and users.csv, and in the report"
        )
    return said


def baselines(config: Mapping[str, Any]) -> list[str]:
    """What is trained on the same people without noise, to compare with."""
    return [name for name in ("trigram", "central") if config["evaluation"][name]]


def exact(config: Mapping[str, Any]) -> Said:
    """Figures of the same people that carry no noise, and who sees them."""
    said = {
        "in the folder": (
            "losses, norms, counts, cohorts and seconds of training (rounds, clients, privacy), "
            "scores, canaries and audits; the report shows them. Give away the model alone"
        ),
        "the text": (
            "a digest of everybody's text is in a run's folder and in each message to a client: "
            "who knows all of it but one person's can tell whether a guess of that is right"
        ),
        "failures": (
            "who failed, when and why (failures.csv, run.log; how many in rounds.csv, the report "
            "and trackers). Who takes a process down or outlasts server.timeout_s takes along "
            "whoever is in the same message, which no sensitivity counts"
        ),
    }
    if told := config["tracking"]["to"]:
        said["trackers"] = f"{', '.join(told)} are sent, each round: {SENT}"
    return said


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number:,} people"
