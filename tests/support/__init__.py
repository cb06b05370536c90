"""What the tests share: programs run as real processes, with a deadline and stack dumps."""

from support.programs import Outcome, run_program

__all__ = ["Outcome", "run_program"]
