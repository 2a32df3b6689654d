"""The native kernel's C, in the order of compilation.

It lies in Python modules because Flower's bundles carry no other code: a node compiles what the
server does.
"""

from fedsim.models.native.source import (
    cifg,
    gradients,
    kernel,
    lstm,
    noise,
    output,
    products,
    trainer,
    vectors,
)

MODULES = (vectors, products, trainer, output, lstm, cifg, gradients, noise, kernel)
SOURCE = "\n".join(f'#line 1 "{module.__name__}"{module.SOURCE}' for module in MODULES)
