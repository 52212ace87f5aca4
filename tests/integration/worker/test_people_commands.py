"""``facet people``: the commands on a real PostgreSQL, as a user types them."""

from __future__ import annotations

import getpass
import json
import shlex

import pytest
from PIL import Image
from sqlalchemy import text
from typer.testing import CliRunner

from worker.cli.main import app
from worker.config import settings
from worker.errors import UsageError
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.releases.records import set_alias


@pytest.fixture
def facet(crowd, clean_database, tmp_path, monkeypatch):
    """Runs a command on three people with three images each; returns its output, parsed where it is JSON."""
    for _ in range(3):
        crowd.photo(0, 1, 2)
    lock_people(crowd.session)
    identify_pending(crowd.session, Gallery(crowd.trunk_id))
    crowd.session.commit()
    monkeypatch.setenv("FACET_DATABASE_URL", clean_database)
    monkeypatch.setenv("FACET_HOME", str(tmp_path))
    monkeypatch.setenv("FACET_REGROUP_ALARM_FLOOR", "0")
    settings.cache_clear()

    def run(line, status=0):
        done = CliRunner().invoke(app, ["people", *shlex.split(line)])
        if isinstance(done.exception, UsageError):
            raise done.exception
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if "--json" in line else done.stdout

    yield run
    settings.cache_clear()


def test_people_are_listed_and_shown(facet):
    assert [row["appearance_count"] for row in facet("list --json")] == [3, 3, 3]
    shown = facet("show 1 --json")
    assert [(row["uri"].startswith("/crowd/"), row["face_count"]) for row in shown] == [(True, 1)] * 3


def test_corrections_are_made_listed_and_undone(facet):
    assert facet("name 1 'Ada Lovelace' --reason caption") == "person 1 is Ada Lovelace (correction 1)\n"
    assert facet("merge 1 2").startswith("people 2 are person 1")
    some = ",".join(str(row["appearance_id"]) for row in facet("show 1 --json")[:2])
    split = facet(f"split 1 --appearances {some} --json")
    assert [row["appearance_count"] for row in facet("list --json")] == [4, 3, 2]
    assert facet(f"show {split['person_id']} --json")
    one = facet("show 1 --json")[0]["appearance_id"]
    assert list(facet(f"not 1 --appearances {one} --json")["person_ids"]) == [str(one)]
    told = facet("history --json")
    assert [row["kind"] for row in told] == ["not", "split", "merge", "name"]
    assert told[-1]["reason"] == "caption"
    assert {row["made_by"] for row in told} == {getpass.getuser()}
    assert told[1]["what"] == f"2 appearances of person 1 are person {split['person_id']}"
    assert told[2]["what"] == "people 2 are person 1, called Ada Lovelace"
    for _ in range(4):
        facet("undo --reason 'only a test'")
    assert [row["appearance_count"] for row in facet("list --json")] == [3, 3, 3]
    assert [row["name"] for row in facet("list --json")] == [None] * 3
    undone = facet("history --json")
    assert {(row["undo_reason"], row["undone_by"]) for row in undone} == {("only a test", getpass.getuser())}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name 9 Ada", "there is no person 9"),
        ("show 9", "there is no person 9"),
        ("split 1 --appearances 1,x", "cannot be read, expected numbers"),
        ("undo", "no correction is active"),
        ("regroup --apply 3", "no open proposal 3"),
        ("regroup --yes --discard 3", "expected at most one"),
        ("regroup --release test --apply 3", "expected the proposal's number alone"),
        ("regroup --release summer", "0 releases have the name"),
    ],
)
def test_wrong_use_is_refused_with_a_remedy(facet, line, message):
    with pytest.raises(UsageError, match=message):
        facet(line)


def test_a_regrouping_that_changes_much_waits(facet, crowd):
    for _ in range(2):
        appearance = facet("show 1 --json")[0]["appearance_id"]
        facet(f"split 1 --appearances {appearance}")
    assert facet("regroup").startswith("0 of 9 appearances")
    for number in (2, 1):
        crowd.session.connection().exec_driver_sql(
            f"UPDATE correction SET undone_at = now() WHERE correction_id = {number}"
        )
    crowd.session.commit()  # as if the places of the corrections were lost
    waiting = facet("regroup --json", status=1)
    assert waiting["proposal_id"] == 1
    assert facet("proposals --json")[0]["changed_count"] == 2
    assert "2 of 9 appearances would change their person" in facet("proposals")
    assert facet("regroup --discard 1") == "proposal 1 is discarded\n"
    assert facet("proposals") == "no proposal waits\n"
    facet("regroup", status=1)
    assert facet("regroup --apply 2").startswith("proposal 2 is applied: 2 appearances")
    assert [row["appearance_count"] for row in facet("list --json")] == [3, 3, 3]
    assert facet("alike --json") == []


def test_what_another_release_shows_is_grouped_alone(facet, crowd):
    """Two people of the candidate's trunk look the same; the active release shows them as they were."""
    other = crowd.register("other", trunk="retrained")
    set_alias(crowd.session, other.release_id, "candidate")
    looks = {person: crowd.look(0) for person in (1, 2)}
    rows = crowd.session.execute(
        text("""SELECT face_id, s.analysis_id, s.media_id, s.person_id, s.ordinal FROM appearance s
                JOIN face_embedding e USING (appearance_id) WHERE person_id IN (1, 2) ORDER BY 1""")
    ).all()
    for row in rows:
        crowd.session.execute(
            text("""WITH s AS (INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds,
                                   end_seconds, face_count, best_face_id, quality, embedding, person_id)
                               VALUES (:analysis, :media, :trunk, :n, 0, 0, 1, :face, 0.8, cast(:vector AS vector), :p)
                               RETURNING appearance_id)
                    INSERT INTO face_embedding (face_id, trunk_id, appearance_id, embedding)
                    SELECT :face, :trunk, appearance_id, cast(:vector AS vector) FROM s"""),
            {"analysis": row.analysis_id, "media": row.media_id, "trunk": other.trunk_id, "n": row.ordinal,
             "face": row.face_id, "p": row.person_id, "vector": str(looks[1 + row.face_id % 2].tolist())},
        )  # fmt: skip
    crowd.session.commit()
    active = facet("list --json")
    done = facet("regroup --release candidate --yes --json")
    assert (done["appearances"], done["changed"] > 0) == (len(rows), True)
    assert facet("regroup --json")["changed"] == 0
    assert facet("list --json") == active


@pytest.mark.parametrize(
    "name", ["[/red] Zoe", "[link=http://evil]x[/link]", ":heart:", "\x1b[2J", "\u202egpj", "{0} %s"]
)
def test_a_name_of_a_person_is_shown_as_it_is(facet, name):
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert f"person 1 is {shown} (" in facet(f"name 1 {shlex.quote(name)}")
    assert shown in facet("list")
    assert shown in facet("history")
    assert facet("list --json")[0]["name"] == name


@pytest.mark.parametrize("line", ["name 1 'A\udce9'", "name 1 Ada --reason 'A\udce9'"])
def test_bytes_that_are_no_utf8_are_wrong_use(facet, line):
    with pytest.raises(UsageError, match="xe9 holds bytes that are no UTF-8"):
        facet(line)


def test_a_name_stands_for_its_person_wherever_a_number_does(facet):
    facet("name 1 'Žofie Ada'")
    assert facet("show 'žofie ada'").startswith("Person 1: Žofie Ada\n")
    assert facet("show 2").startswith("Person 2\n")
    assert facet("name 'Z\u030cofie Ada' Ada") == "person 1 is Ada (correction 2)\n"  # the accent stored apart
    assert facet("merge Ada 2").startswith("people 2 are person 1")
    some = facet("show Ada --json")[0]["appearance_id"]
    assert facet(f"split ada --appearances {some}").startswith("1 appearance of person 1 is person")
    one = facet("show ada --json")[0]["appearance_id"]
    assert list(facet(f"not ADA --appearances {one} --json")["person_ids"]) == [str(one)]


def test_an_unknown_or_doubtful_name_is_refused_with_what_is_near(facet):
    facet("name 1 'Grace Hopper'")
    with pytest.raises(UsageError, match="no person is called Grace Hoper, Grace Hopper is; pass a number"):
        facet("show 'Grace Hoper'")
    facet("name 3 'grace hopper'")
    with pytest.raises(UsageError, match=r"2 people are called Grace Hopper: 1, 3; .* `facet people merge 1 3`"):
        facet("show 'Grace Hopper'")


def test_the_same_name_is_a_warning_and_an_offer_to_merge(facet):
    facet("name 1 Ada")
    done = CliRunner().invoke(app, ["people", "name", "3", "Ada"])
    assert done.exit_code == 0
    assert done.stdout == "person 3 is Ada (correction 2)\n"
    assert "people 1, 3 are all called Ada; if they are one person: " in done.stderr
    assert done.stderr.rstrip().endswith("people merge 1 3")
    assert [row["appearance_count"] for row in facet("list --json")] == [3, 3, 3]
    told = facet("name 2 ada --json --merge")
    assert told["named"] == [{"person_id": 2, "name": "ada", "correction_id": 3}]
    assert told["same_name"] == [{"name": "ada", "people": [1, 2, 3], "merged": 4}]
    assert [row["appearance_count"] for row in facet("list --json")] == [9]


def test_many_names_come_from_a_list_or_none(facet, tmp_path):
    three = facet("show 3 --json")[0]["appearance_id"]
    path = tmp_path / "names.csv"
    path.write_text('\ufeffperson_id;name;reason\n1;Ada;caption\n2;"Hopper, Grace";\n3;;\n', encoding="utf-8")
    assert facet(f"name --from {path} --reason list").splitlines() == [
        "person 1 is Ada (correction 1)",
        "person 2 is Hopper, Grace (correction 2)",
    ]
    assert [row["reason"] for row in facet("history --json")] == ["list", "caption"]
    assert facet(f"name --from {path}") == "2 people had their names already\n"
    path.write_text(f"appearance_id,name\n{three},Eileen\n")
    assert facet(f"name --from {path}") == "person 3 is Eileen (correction 3)\n"
    path.write_text("person,name\nEileen,Eileen Collins\n3,Eileen Collins\nAda,Ada Lovelace\n")
    assert len(facet(f"name --from {path}").splitlines()) == 2
    assert [row["name"] for row in facet("list --json")] == ["Ada Lovelace", "Hopper, Grace", "Eileen Collins"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("person,name\n1,Countess\n9,Nobody\n", "there is no person 9"),
        ("person,name\n1,Countess\nAda,Duchess\n", "lines 2 and 3 call person 1 Countess and Duchess"),
        ("person,name\n1,Countess\nEve,Duchess\n", "line 3: no person is called Eve"),
        ("appearance_id,name\n1,Countess\n999,Ada\n", "line 3: there is no appearance 999"),
    ],
)
def test_a_list_with_one_wrong_line_names_nobody(facet, tmp_path, content, message):
    facet("name 1 Ada")
    (tmp_path / "names.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        facet(f"name --from {tmp_path / 'names.csv'}")
    assert [row["name"] for row in facet("list --json")] == ["Ada", None, None]


@pytest.mark.parametrize("line", ["name", "name 1", "name 1 Ada --from names.csv"])
def test_one_way_to_name_is_expected(facet, line):
    with pytest.raises(UsageError, match="expected"):
        facet(line)


def test_merge_candidates_are_drawn_in_pairs(facet, crowd, tmp_path):
    output = tmp_path / "pairs.jpg"
    assert "no rows" in facet(f"alike -o {output}")
    assert not output.exists()
    crowd.session.execute(
        text("INSERT INTO person_alike (trunk_id, first_person_id, second_person_id) VALUES (:t, 1, 2), (:t, 2, 3)"),
        {"t": crowd.trunk_id},
    )
    crowd.session.commit()
    facet(f"alike -o {output}")
    with Image.open(output) as sheet:
        assert sheet.format == "JPEG"
    with pytest.raises(UsageError, match="expected one of"):
        facet(f"alike -o {tmp_path / 'pairs.txt'}")
