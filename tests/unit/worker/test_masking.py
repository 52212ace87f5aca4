import logging

import pytest

from worker.masking import MaskingFormatter, holds_secret, masked

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://facet:{SECRET}@db:5432/facet",
        f"postgresql+psycopg://facet:{SECRET}@/facet?host=/run",
        f"redis://:{SECRET}@redis:6379/0",
        f"rediss://user:p:{SECRET}/x@redis:6379/0",
        f"could not connect to amqp://u:{SECRET}@h// and sftp://v:{SECRET}@h/x",
        f"https://h/x.mp4?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://h/x.mp4?token={SECRET}",
        f"az://c/x?sig={SECRET}",
        f"host=db password={SECRET} dbname=facet",
        f"{{'aws_secret_access_key': '{SECRET}'}}",
        f"postgresql://db/facet?user=a&password={SECRET}&sslmode=require",
    ],
)
def test_secrets_are_hidden(text):
    assert SECRET not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a@b.jpg", "/media/a:b@c.jpg", "unit 3 is lost under token 7's lease", "https://host:8080/a", "key=1"],
)
def test_the_rest_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize("url", [f"s3://k:{SECRET}@bucket/a", "sftp://user@host/a", f"https://h/a?api_key={SECRET}"])
def test_urls_with_credentials_are_known(url):
    assert holds_secret(url)
    assert not holds_secret("s3://bucket/a@b.jpg")


def test_log_lines_and_their_tracebacks_are_masked():
    err = ValueError(f"redis://:{SECRET}@h")
    record = logging.LogRecord("x", 30, "f", 1, "lost %s", (f"redis://:{SECRET}@h",), (ValueError, err, None))
    line = MaskingFormatter("%(message)s").format(record)
    assert "ValueError: redis://:***@h" in line
    assert SECRET not in line
