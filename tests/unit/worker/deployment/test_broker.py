"""The address of the broker: any but that of a Redis is refused in a sentence."""

from __future__ import annotations

import pytest

from worker.config import Settings
from worker.deployment.app import make_app
from worker.deployment.broker import check_broker
from worker.errors import UsageError


@pytest.mark.parametrize("url", ["amqp://user:secret@host//", "sqs://", "localhost:6379"])
def test_only_redis_is_a_broker(url):
    for use in (check_broker, lambda url: make_app(Settings(broker_url=url))):
        with pytest.raises(UsageError, match="expected redis:// or rediss://") as refused:
            use(url)
        assert "secret" not in str(refused.value)
