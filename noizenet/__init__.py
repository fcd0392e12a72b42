"""NoizeNet: teach a recurrent network your music, and listen to what it plays next."""

import os

# OpenMP threads that wait in busy loops take the processors from whoever has work: beside another
# busy program, training was measured 15 times slower than with threads that sleep. This must be
# said before torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
