"""Marks of tests that fork the process of pytest itself, beside its threads."""

from __future__ import annotations

import pytest

#: How the warning begins. pytest's -W takes no pattern.
MESSAGE = "This process:DeprecationWarning"

#: Python warns of such a fork from 3.12 on. As an error it is raised from 3.15 on, in the parent, when
#: the child is there already.
forks_beside_threads = pytest.mark.filterwarnings(f"ignore:{MESSAGE}")
