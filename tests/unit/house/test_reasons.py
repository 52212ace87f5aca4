import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_lists_the_reasons_that_the_code_gives():
    page = (ROOT / "docs" / "reasons.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    classes = "MediaRejected|DecoderCrashed|Other|ArchiveRefused|RefusedFile|Refusal|_reject"
    calls = rf'(?:{classes})\((?:[a-z.()]+, )?\s*"([a-z_]+)"'
    given = set()
    worker = ROOT / "worker"
    for source in (path for folder in ("decode", "ingest", "storage") for path in (worker / folder).rglob("*.py")):
        given |= set(re.findall(calls, source.read_text()))
    given |= {"truncated", "unreadable"}  # chosen by conditions
    given |= {"changed", "finish", "not_found"}  # classes of their own
    assert given == listed
