"""What every worker needs, imported once: by the process that the workers are forked from.

Libraries only, none that starts a thread (pandas does), and no arithmetic: threads do not survive
a fork.
"""

import gc

import torch  # noqa: F401
from flwr.clientapp import ClientApp  # noqa: F401

import fedsim.engines.local
import fedsim.engines.wire
import fedsim.evaluation
import fedsim.federation
import fedsim.models.flat  # noqa: F401

gc.collect()
gc.freeze()  # a collection that looked at these objects would copy their pages
