"""File formats, one module each; importing this package enters them into `READERS`."""

from fedsim.data.readers import chitchat, irc, nus_sms, table
from fedsim.data.readers.base import READERS, Reader

__all__ = ["READERS", "Reader", "chitchat", "irc", "nus_sms", "table"]
