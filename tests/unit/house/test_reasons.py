import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_lists_the_reasons_that_the_code_gives():
    page = (ROOT / "docs" / "reasons.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    calls = r'(?:MediaRejected|DecoderCrashed|Other|ArchiveRefused|RefusedFile|_reject)\((?:[a-z.()]+, )?\s*"([a-z_]+)"'
    pairs = r'(?:return|refusal =) \(?"([a-z_]+)", '
    given = set()
    worker = ROOT / "worker"
    for source in (path for folder in ("decode", "ingest", "storage") for path in (worker / folder).rglob("*.py")):
        text = source.read_text()
        given |= set(re.findall(calls, text)) | set(re.findall(pairs, text))
    given |= {"truncated", "unreadable"}  # chosen by conditions
    given |= {"changed", "finish", "not_found"}  # classes of their own
    assert given == listed
