import logging
import random
import re
import time

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


# The same rules as two expressions, which take time in proportion to the square of the length.
USER = re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s'\"]+@", re.IGNORECASE)
PARAMETER = re.compile(
    r"(?P<kept>\b[\w.-]*(?:password|passwd|pwd|secret|token|signature|credential|"
    r"(?:access|api|account|shared)[_-]?key|sas|sig|security)[\w.-]*['\"]?\s*[=:]\s*['\"]?)[^\s&;,'\"]+",
    re.IGNORECASE,
)
PIECES = (
    *"aZ9_.-+:/@'\" \n=&;,",
    "://",
    "a://",
    "token",
    "sig",
    "pwd=",
    "api-key",
    "é",
    "u:p@",
    "SAS :",
    "\u212a",
    "\u017f",
)


def test_it_hides_what_the_rules_name():
    dice = random.Random(5)
    for _ in range(30_000):
        text = "".join(dice.choices(PIECES, k=dice.randint(1, 14)))
        hidden = PARAMETER.sub(r"\g<kept>***", USER.sub(r"\g<kept>:***@", text))
        assert masked(text) == hidden, repr(text)


@pytest.mark.parametrize(
    "piece",
    ["a", "a.", "-", "token", "token.", "a.token ", "://", "a://", "a://b:", "a:", "@", "a://b:c@", "'", "= ",
     "token=", "\n", "token'", "sig ", "a+"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "=x", "://u:p@h", "@"])
def test_it_takes_time_in_proportion_to_the_length(piece, end):
    text = piece * (100_000 // len(piece)) + end
    started = time.process_time()
    masked(text)
    masked(" " * 50_000 + text)
    assert time.process_time() - started < 3
