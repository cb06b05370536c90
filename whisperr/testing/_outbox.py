"""For ``unittest`` and Django's test cases: an outbox, as Django has one for mail."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING

from whisperr.testing._recording import Recording, recording

if TYPE_CHECKING:
    _Case = unittest.TestCase
else:
    _Case = object


class OutboxMixin(_Case):
    """Each test records what it tracks; ``self.whisperr_outbox`` holds it. ::

        class CheckoutTest(OutboxMixin, TestCase):
            def test_order(self):
                self.client.post("/orders/", {"item": 3})
                self.whisperr_outbox.assert_tracked("order_placed", properties={"item": 3})

    Stands before the test case among the bases. ``setUp`` is recorded; ``setUpClass`` and
    ``setUpTestData`` are not. A call that the client refuses fails the test, see
    ``Recording.check``. For any ``unittest.TestCase``, sync and async, Django's among them.

    Attributes:
        whisperr_outbox: The ``Recording`` of the test, a new one for each.

    Raises:
        TypeError: It stands behind the test case among the bases; raised where the class is made.
    """

    whisperr_outbox: Recording

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        order = cls.__mro__
        if unittest.TestCase in order and order.index(OutboxMixin) > order.index(unittest.TestCase):
            raise TypeError(f"{cls.__name__}: OutboxMixin must stand before the test case")

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """As of ``unittest.TestCase``, while a recording is under way."""
        with recording(check=False) as self.whisperr_outbox:
            self.addCleanup(self.whisperr_outbox.check)  # the first one in is the last one done
            return super().run(result)
