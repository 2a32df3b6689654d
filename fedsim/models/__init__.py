"""Next-word models behind one interface; a new model is one file and one import below."""

from fedsim.models.base import MODELS, LanguageModel, ModelOptions, build, initialise
from fedsim.models.batch import BOS, EOS, N_SPECIALS, PAD, UNK, Batch
from fedsim.models.cifg import CifgOptions
from fedsim.models.loss import NOMINAL_TOKENS, sequence_nats, training_loss
from fedsim.models.lstm import LstmOptions
from fedsim.models.ngram import KneserNey
from fedsim.models.transformer import TransformerOptions

__all__ = [
    "BOS",
    "EOS",
    "MODELS",
    "NOMINAL_TOKENS",
    "N_SPECIALS",
    "PAD",
    "UNK",
    "Batch",
    "CifgOptions",
    "KneserNey",
    "LanguageModel",
    "LstmOptions",
    "ModelOptions",
    "TransformerOptions",
    "build",
    "initialise",
    "sequence_nats",
    "training_loss",
]
