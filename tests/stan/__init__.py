"""NATS Streaming with real clients."""

import pytest

pytest.register_assert_rewrite("tests.stan.scenarios")
