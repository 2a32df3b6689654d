"""File formats, one module each; importing this package enters them into `READERS`."""

from fedsim.data.readers import (
    chat_json,
    chitchat,
    huggingface,
    irc,
    leaf,
    nus_sms,
    plays,
    sms_backup,
    table,
    tff,
    whatsapp,
)
from fedsim.data.readers.base import READERS, Reader

__all__ = [
    "READERS",
    "Reader",
    "chat_json",
    "chitchat",
    "huggingface",
    "irc",
    "leaf",
    "nus_sms",
    "plays",
    "sms_backup",
    "table",
    "tff",
    "whatsapp",
]
