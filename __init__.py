"""Makes way for the package `fedsim/`, where Python takes this checkout for it.

From the folder above, or with that folder on PYTHONPATH, `import fedsim` finds a checkout that is
called fedsim. Without this file it would be a namespace package, empty, that hides an installed
fedsim as well. So the package inside is loaded in its place, with those that stand beside it.
"""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "fedsim":
    sys.path.insert(0, str(Path(__file__).parent))
    del sys.modules[__name__]
    sys.modules[__name__] = import_module(__name__)
