"""File formats, one module each; importing this package enters them into `READERS`."""

from fedsim.data.readers import chitchat, huggingface, irc, leaf, nus_sms, plays, table, tff
from fedsim.data.readers.base import READERS, Reader

__all__ = [
    "READERS",
    "Reader",
    "chitchat",
    "huggingface",
    "irc",
    "leaf",
    "nus_sms",
    "plays",
    "table",
    "tff",
]
